#ifndef CAIRN_MERGE_WORKER_WORKER_LOOP_H_
#define CAIRN_MERGE_WORKER_WORKER_LOOP_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/v1/worker.pb.h"
#include "core/rpc/hub_channel.h"
#include "merge/worker/job_layout.h"
#include "merge/worker/release_cache.h"

namespace cairn {

struct WorkerOptions {
  // Holds the cache of releases, the running job and this worker's identity.
  std::string scratch;
  std::string device = "cpu";
  std::string device_class;
  int threads = 1;
  int64_t memory_bytes = int64_t{8} << 30;
  int64_t cache_bytes = int64_t{32} << 30;
  absl::Duration job_time = absl::Hours(6);
  // What runs a job, as `PROGRAM --run-job DIRECTORY ...`: this program.
  std::string job_program = "/proc/self/exe";
  // End after one job, or when none was waiting.
  bool is_once = false;
};

// Leases jobs, one after the other: downloads what a job names, runs it in a
// process of its own, uploads what it left and completes the lease. A hub that
// is away is waited for, also with a finished job in hand; a result whose
// lease was lost is dropped.
class WorkerLoop {
 public:
  // Makes the folders in scratch and takes its lock: FAILED_PRECONDITION when
  // another worker has it. `hub` outlives the loop.
  static absl::StatusOr<std::unique_ptr<WorkerLoop>> Create(
      HubChannel& hub, WorkerOptions options);
  ~WorkerLoop();
  WorkerLoop(const WorkerLoop&) = delete;
  WorkerLoop& operator=(const WorkerLoop&) = delete;

  // Runs until the channel's stop is requested (OK), or the hub refuses this
  // worker (UNAUTHENTICATED, PERMISSION_DENIED).
  absl::Status Run();

 private:
  WorkerLoop(HubChannel& hub, WorkerOptions options, std::string instance_id,
             int lock);

  absl::Status OpenSession();
  absl::StatusOr<v1::LeaseJobResponse> LeaseJob();
  absl::Status DoJob(const v1::Lease& lease);
  // What to tell the hub about a job; an error when it is no longer asked.
  absl::StatusOr<v1::CompleteJobRequest> WorkOn(const v1::Lease& lease,
                                                const JobLayout& layout,
                                                const std::stop_token& stop);
  absl::Status RunProcess(const JobLayout& layout, const std::stop_token& stop);
  absl::Status UploadResult(const JobLayout& layout,
                            v1::CompleteJobRequest& request);
  // Hands in what came out; a result that the hub refuses becomes a failure.
  absl::Status Complete(v1::CompleteJobRequest& request);
  // Does `work` again while the hub is away, until it succeeds, fails for
  // another reason, or `stop` is requested.
  absl::Status Persist(const std::stop_token& stop,
                       absl::FunctionRef<absl::Status()> work);

  HubChannel& hub_;
  const WorkerOptions options_;
  const std::string instance_id_;
  const int lock_;
  ReleaseCache releases_;
  v1::Session session_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_WORKER_LOOP_H_
