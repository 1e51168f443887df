#ifndef CAIRN_MERGE_WORKER_MERGE_JOB_H_
#define CAIRN_MERGE_WORKER_MERGE_JOB_H_

#include "absl/status/statusor.h"
#include "cairn/v1/job.pb.h"
#include "merge/worker/job_context.h"

namespace cairn {

// Merges; leaves changed tensors and the candidate's manifest in the output
// directory, each named by its SHA-256, unless only the digest is wanted.
absl::StatusOr<v1::MergeResult> RunMergeJob(const v1::MergeSpec& spec,
                                            const JobContext& context);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_MERGE_JOB_H_
