#ifndef CAIRN_SERVER_JOBS_JOB_QUEUE_H_
#define CAIRN_SERVER_JOBS_JOB_QUEUE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cairn/v1/transfer.pb.h"
#include "cairn/v1/worker.pb.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/stage.h"
#include "storage/blob_store.h"

namespace cairn {

struct JobQueueOptions {
  // How long a lease lasts without a heartbeat, and how often to send one.
  absl::Duration lease_ttl = absl::Seconds(60);
  absl::Duration heartbeat_interval = absl::Seconds(15);
  // Lost leases and crashes after which a job is given up.
  int attempts_max = 3;
  // Sessions not heard of for so long are forgotten.
  absl::Duration session_ttl = absl::Hours(24);
  // Jobs that have been over for so long are forgotten.
  absl::Duration keep_over = absl::Hours(24 * 30);
};

// Hands jobs to workers as leases with fencing tokens, and takes results back.
// A result counts only under the token of the job's last lease. Deadlines are
// monotonic and kept in memory: after a restart every lease gets one TTL more.
// RunPass() takes expired leases back and forgets what is long over.
// Thread-safe.
class JobQueue : public WorkerPresence, public Stage {
 public:
  // `store`, `blobs` and `clock` must outlive the queue.
  JobQueue(HubStore& store, const BlobStore& blobs, Clock& clock,
           JobQueueOptions options = {});

  // Starts a session for the caller's worker. Leases of earlier sessions of
  // the same instance are freed at once and do not count as attempts.
  absl::StatusOr<v1::Session> OpenSession(
      const Caller& caller, const v1::OpenSessionRequest& request);
  // The first job that the session may take, or an empty response. NOT_FOUND
  // for a session that is not the caller's or has been replaced.
  absl::StatusOr<v1::LeaseJobResponse> Lease(const Caller& caller,
                                             absl::string_view session);
  absl::StatusOr<v1::HeartbeatResponse> Heartbeat(
      const Caller& caller, const v1::HeartbeatRequest& request);
  // Commits a result or a failure. ABORTED for a stale token;
  // INVALID_ARGUMENT for a result that does not fit the job. An identical
  // repetition is success.
  absl::Status Complete(const Caller& caller,
                        const v1::CompleteJobRequest& request);

  // OK when the caller holds the lease and it names the blob: a file of an
  // update, suite or release in the job's inputs, a tensor manifest, or a
  // tensor of a candidate. PERMISSION_DENIED otherwise.
  absl::Status CheckLeasedBlob(const Caller& caller,
                               const v1::LeasedBlob& blob) const;

  bool HasWorker(absl::string_view kind) const override;

  absl::string_view name() const override { return "leases"; }
  absl::StatusOr<int> RunPass() override;

  const JobQueueOptions& options() const { return options_; }

 private:
  struct LeaseClock {
    int64_t token = 0;
    absl::Duration deadline;
  };
  struct Presence {
    absl::Duration last_heard;
    std::vector<std::string> kinds;
  };

  absl::StatusOr<store::v1::SessionRecord> OwnSession(
      const HubReader& reader, const Caller& caller,
      absl::string_view session) const;
  // Puts leased jobs back that no longer have their worker; no attempt counts.
  absl::Status FreeLeases(
      HubTransaction& transaction,
      const std::function<bool(const store::v1::LeaseRecord&)>& is_meant,
      absl::string_view why) const;
  absl::StatusOr<bool> HoldsLease(
      const HubReader& reader, const store::v1::SessionRecord& session) const;
  absl::StatusOr<bool> TakeOne(HubTransaction& transaction,
                               const Caller& caller,
                               const store::v1::SessionRecord& session,
                               v1::Lease& lease) const;
  absl::Status CheckResult(const store::v1::JobRecord& job,
                           absl::string_view result_sha256) const;
  // Puts a job whose lease ended without a result back, or gives it up.
  absl::Status EndAttempt(HubTransaction& transaction,
                          store::v1::JobRecord& job,
                          const v1::JobFailure& failure, bool counts) const;
  // Each returns how many records it changed.
  absl::StatusOr<int> ReapLeases();
  absl::StatusOr<int> ForgetSessions();
  absl::StatusOr<int> ForgetJobs();
  absl::Status ReapOne(const std::string& name, int64_t token);

  void Heard(const store::v1::SessionRecord& session);
  void Extend(const std::string& job, int64_t token);
  void Forget(const std::string& job);
  bool IsExpired(const std::string& job, int64_t token);
  // Whether another worker that was heard of lately runs this kind.
  bool HasOtherWorker(absl::string_view kind,
                      absl::string_view instance_key) const;

  HubStore& store_;
  const BlobStore& blobs_;
  Clock& clock_;
  const JobQueueOptions options_;
  const absl::Time started_at_;

  mutable Mutex mutex_;
  std::map<std::string, LeaseClock> leases_ ABSL_GUARDED_BY(mutex_);
  // By worker and instance.
  std::map<std::string, Presence> present_ ABSL_GUARDED_BY(mutex_);
  // Tensor blobs of the candidate manifest asked for last, sorted: a worker
  // reads thousands of them one after the other.
  mutable std::string manifest_ ABSL_GUARDED_BY(mutex_);
  mutable std::vector<std::string> manifest_blobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_JOBS_JOB_QUEUE_H_
