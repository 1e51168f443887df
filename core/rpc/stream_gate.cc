#include "core/rpc/stream_gate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"

namespace cairn {

StreamGate::Pass::Pass(StreamGate& gate, grpc::CallbackServerContext* context,
                       std::string caller, absl::Duration now)
    : gate_(gate),
      context_(context),
      caller_(std::move(caller)),
      admitted_at_(now),
      moved_at_(now) {}

StreamGate::Pass::~Pass() {
  MutexLock lock(gate_.mutex_);
  gate_.passes_.erase(place_);
  auto it = gate_.by_caller_.find(caller_);
  if (--it->second == 0) gate_.by_caller_.erase(it);
}

void StreamGate::Pass::Moved() {
  const absl::Duration now = gate_.clock_.Monotonic();
  MutexLock lock(gate_.mutex_);
  moved_at_ = now;
}

StreamGate::StreamGate(const Options& options, Clock& clock)
    : options_(options), clock_(clock) {}

absl::StatusOr<std::unique_ptr<StreamGate::Pass>> StreamGate::Admit(
    grpc::CallbackServerContext* context, absl::string_view caller) {
  const absl::Duration now = clock_.Monotonic();
  std::string key(caller);
  MutexLock lock(mutex_);
  auto own = by_caller_.find(key);
  if (own != by_caller_.end() && own->second >= options_.caller_streams_max) {
    return Refuse(absl::StrCat("you have ", own->second,
                               " streams that move data, which is the most"));
  }
  if (static_cast<int>(passes_.size()) >= options_.streams_max) {
    EndOldest(now);
    return Refuse(
        absl::StrCat(options_.streams_max, " streams move data already"));
  }
  ++by_caller_[key];
  std::unique_ptr<Pass> pass(new Pass(*this, context, std::move(key), now));
  pass->place_ = passes_.insert(passes_.end(), pass.get());
  return pass;
}

absl::Status StreamGate::Refuse(absl::string_view why) {
  ++refused_;
  const absl::Duration delay =
      std::min(options_.retry_delay_max,
               options_.retry_delay * (1 + refused_ / options_.streams_max));
  return WithRetryDelay(
      absl::ResourceExhaustedError(absl::StrCat(why, ": try again")), delay);
}

void StreamGate::EndOldest(absl::Duration now) {
  for (Pass* pass : passes_) {
    if (now - pass->admitted_at_ < options_.turn_max) return;
    if (pass->is_ended_ || pass->context_ == nullptr) continue;
    pass->is_ended_ = true;
    pass->context_->TryCancel();
    return;
  }
}

int StreamGate::EndIdle() {
  const absl::Duration now = clock_.Monotonic();
  int ended = 0;
  MutexLock lock(mutex_);
  refused_ = 0;
  for (Pass* pass : passes_) {
    if (now - pass->moved_at_ <= options_.idle_max) continue;
    if (pass->context_ == nullptr) continue;
    // Only queues the cancellation; the stream's own callbacks run elsewhere.
    pass->is_ended_ = true;
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
