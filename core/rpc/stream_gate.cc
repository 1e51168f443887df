#include "core/rpc/stream_gate.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"

namespace cairn {

StreamGate::Pass::Pass(StreamGate& gate, grpc::CallbackServerContext* context,
                       absl::Duration now)
    : gate_(gate), context_(context), moved_at_(now) {}

StreamGate::Pass::~Pass() {
  MutexLock lock(gate_.mutex_);
  gate_.passes_.erase(place_);
}

void StreamGate::Pass::Moved() {
  const absl::Duration now = gate_.clock_.Monotonic();
  MutexLock lock(gate_.mutex_);
  moved_at_ = now;
}

StreamGate::StreamGate(const Options& options, Clock& clock)
    : options_(options), clock_(clock) {}

absl::StatusOr<std::unique_ptr<StreamGate::Pass>> StreamGate::Admit(
    grpc::CallbackServerContext* context) {
  const absl::Duration now = clock_.Monotonic();
  MutexLock lock(mutex_);
  if (static_cast<int>(passes_.size()) >= options_.streams_max) {
    return WithRetryDelay(
        absl::ResourceExhaustedError(absl::StrCat(
            options_.streams_max, " streams move data already: try again")),
        options_.retry_delay);
  }
  std::unique_ptr<Pass> pass(new Pass(*this, context, now));
  pass->place_ = passes_.insert(passes_.end(), pass.get());
  return pass;
}

int StreamGate::EndIdle() {
  const absl::Duration now = clock_.Monotonic();
  int ended = 0;
  MutexLock lock(mutex_);
  for (Pass* pass : passes_) {
    if (now - pass->moved_at_ <= options_.idle_max) continue;
    if (pass->context_ == nullptr) continue;
    // Only queues the cancellation; the stream's own callbacks run elsewhere.
    pass->context_->TryCancel();
    ++ended;
  }
  return ended;
}

int StreamGate::open_streams() const {
  MutexLock lock(mutex_);
  return static_cast<int>(passes_.size());
}

}  // namespace cairn
