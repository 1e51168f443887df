#ifndef CAIRN_MERGE_WORKER_JOB_INPUTS_H_
#define CAIRN_MERGE_WORKER_JOB_INPUTS_H_

#include <vector>

#include "cairn/v1/job.pb.h"

namespace cairn {

// What a job reads, whatever its kind. Pointers into the spec; the order
// numbers updates and suites (see JobLayout).
struct JobInputs {
  std::vector<const v1::ReleaseInput*> releases;  // one a digest
  std::vector<const v1::CandidateInput*> candidates;
  std::vector<const v1::UpdateInput*> updates;
  std::vector<const v1::SuiteInput*> suites;
};

// `spec` outlives the result.
JobInputs InputsOf(const v1::JobSpec& spec);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_JOB_INPUTS_H_
