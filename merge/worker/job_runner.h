#ifndef CAIRN_MERGE_WORKER_JOB_RUNNER_H_
#define CAIRN_MERGE_WORKER_JOB_RUNNER_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/job.pb.h"
#include "cairn/v1/worker.pb.h"
#include "merge/worker/job_context.h"

namespace cairn {

// Does a job from what lies on disk, without the hub.
absl::StatusOr<v1::JobResult> RunJob(const v1::JobSpec& spec,
                                     const JobContext& context);

// The job process: reads the spec of context.layout, runs it, leaves a result
// or a failure behind and keeps the progress file current. Returns the exit
// code: 0 when either was left.
int RunJobProcessMain(JobContext context);

// What a status means as the end of a job: an input's fault, or a limit that
// was broken (CRASH), or the machine's (WORKER).
v1::JobFailure FailureOf(const absl::Status& status);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_JOB_RUNNER_H_
