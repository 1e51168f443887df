#ifndef CAIRN_MERGE_WORKER_LEASE_KEEPER_H_
#define CAIRN_MERGE_WORKER_LEASE_KEEPER_H_

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cairn/v1/worker.pb.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// How far a job has come.
struct JobProgress {
  double fraction = 0;
  std::string text;
};

// Heartbeats for a lease while alive. A hub that cannot be reached is asked
// again at the next beat: it may be restarting, and extends leases when it is
// back.
class LeaseKeeper {
 public:
  struct Options {
    std::string session;
    std::string job;
    int64_t fencing_token = 0;
    absl::Duration interval = absl::Seconds(15);
    // Asked at every beat, from the keeper's thread.
    std::function<JobProgress()> progress;
  };

  // `hub` outlives the keeper.
  LeaseKeeper(HubChannel& hub, Options options);
  ~LeaseKeeper() = default;  // stops beating
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

  // Requested once the hub no longer wants the job from this worker.
  std::stop_token lost() const { return lost_.get_token(); }

 private:
  void Run(const std::stop_token& stop);
  // False when the lease is lost.
  bool Beat();

  HubChannel& hub_;
  const Options options_;
  std::stop_source lost_;
  std::jthread thread_;  // last: it uses the members above
};

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_LEASE_KEEPER_H_
