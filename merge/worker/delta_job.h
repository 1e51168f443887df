#ifndef CAIRN_MERGE_WORKER_DELTA_JOB_H_
#define CAIRN_MERGE_WORKER_DELTA_JOB_H_

#include "absl/status/statusor.h"
#include "cairn/v1/job.pb.h"
#include "merge/worker/job_context.h"

namespace cairn {

// Writes the delta from one release to another as a blob to be uploaded.
absl::StatusOr<v1::DeltaResult> RunDeltaJob(const v1::DeltaSpec& spec,
                                            const JobContext& context);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_DELTA_JOB_H_
