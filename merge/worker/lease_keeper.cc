#include "merge/worker/lease_keeper.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "cairn/v1/worker.grpc.pb.h"
#include "core/base/log.h"

namespace cairn {
namespace {

// Sleeps; false when a stop was requested meanwhile.
bool SleepUnlessStopped(const std::stop_token& stop, absl::Duration duration) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, absl::ToChronoNanoseconds(duration),
                 [] { return false; });
  return !stop.stop_requested();
}

}  // namespace

LeaseKeeper::LeaseKeeper(HubChannel& hub, Options options)
    : hub_(hub),
      options_(std::move(options)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void LeaseKeeper::Run(const std::stop_token& stop) {
  while (SleepUnlessStopped(stop, options_.interval)) {
    if (Beat()) continue;
    lost_.request_stop();
    return;
  }
}

bool LeaseKeeper::Beat() {
  v1::HeartbeatRequest request;
  request.set_session(options_.session);
  request.set_job(options_.job);
  request.set_fencing_token(options_.fencing_token);
  const JobProgress progress = options_.progress();
  request.set_progress(progress.text);
  request.set_fraction(progress.fraction);
  auto response = hub_.Call(
      &v1::WorkerService::Stub::Heartbeat, request,
      {.deadline = absl::Seconds(10), .patience = absl::ZeroDuration()});
  if (response.ok()) return !response->cancelled();
  if (IsTransient(response.status()) ||
      absl::IsDeadlineExceeded(response.status()) ||
      absl::IsCancelled(response.status())) {
    return true;
  }
  CAIRN_LOG(kWarning, "lost the lease of ", options_.job, ": ",
            response.status().message());
  return false;
}

}  // namespace cairn
