#ifndef CAIRN_MERGE_WORKER_EVALUATE_JOB_H_
#define CAIRN_MERGE_WORKER_EVALUATE_JOB_H_

#include "absl/status/statusor.h"
#include "cairn/v1/job.pb.h"
#include "merge/worker/job_context.h"

namespace cairn {

// Scores the base where asked to, and the candidate side: the base with an
// update on top, in float32 and unrounded, or other weights as they are
// stored. Without a candidate side the base is all there is to score.
absl::StatusOr<v1::EvaluateResult> RunEvaluateJob(const v1::EvaluateSpec& spec,
                                                  const JobContext& context);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_EVALUATE_JOB_H_
