#ifndef CAIRN_SERVER_JOBS_JOB_KINDS_H_
#define CAIRN_SERVER_JOBS_JOB_KINDS_H_

#include <algorithm>
#include <vector>

#include "cairn/store/v1/records.pb.h"

namespace cairn {

// Whether a result is of the kind that was asked for.
inline bool Answers(const v1::JobResult& result, const v1::JobSpec& spec) {
  return (spec.has_evaluate() && result.has_evaluate()) ||
         (spec.has_search() && result.has_search()) ||
         (spec.has_merge() && result.has_merge()) ||
         (spec.has_delta() && result.has_delta());
}

// Puts jobs that nobody waits for after the others, which keep their order:
// deltas only spare those who pull some bytes.
inline void PutUrgentFirst(std::vector<store::v1::JobRecord>& jobs) {
  std::stable_partition(
      jobs.begin(), jobs.end(),
      [](const store::v1::JobRecord& job) { return !job.spec().has_delta(); });
}

}  // namespace cairn

#endif  // CAIRN_SERVER_JOBS_JOB_KINDS_H_
