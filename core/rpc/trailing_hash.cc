#include "core/rpc/trailing_hash.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace cairn {
namespace {

// More than the ranges of the connections that are ahead of the first one.
constexpr int64_t kKeptBytesMax = 32 << 20;
// How far the hash may be behind; below kKeptBytesMax, so that it finds in
// memory what is next.
constexpr int64_t kBehindMax = 8 << 20;
// Less is not worth waking a thread for.
constexpr int64_t kWakeBytes = 1 << 20;
constexpr int64_t kTileBytes = 256 << 10;

}  // namespace

TrailingHash::TrailingHash(const PartFile& file, int64_t size_bytes)
    : file_(file), size_(size_bytes), thread_([this] { Run(); }) {}

TrailingHash::~TrailingHash() { Stop(); }

void TrailingHash::Stop() {
  MutexLock lock(mutex_);
  is_stopped_ = true;
  changed_.NotifyAll();
}

bool TrailingHash::IsPressed() const {
  // What an earlier attempt left is read back, and nobody waits for that.
  return front_ - hashed_ > kBehindMax && !kept_.empty() &&
         kept_.begin()->first - hashed_ <= kTileBytes;
}

void TrailingHash::Offer(int64_t offset, ChunkBytes bytes) {
  MutexLock lock(mutex_);
  while (IsPressed() && !is_stopped_) changed_.Wait(mutex_);
  if (offset < hashed_ || kept_bytes_ + bytes.size() > kKeptBytesMax) return;
  kept_bytes_ += bytes.size();
  kept_[offset] = std::move(bytes);
}

void TrailingHash::Advance(int64_t front) {
  MutexLock lock(mutex_);
  front_ = std::max(front_, front);
  if (front_ - hashed_ >= kWakeBytes || front_ == size_) changed_.NotifyAll();
}

absl::Status TrailingHash::HashSome() {
  ChunkBytes next;
  int64_t at = 0;
  int64_t end = 0;
  {
    MutexLock lock(mutex_);
    if (hashed_ == size_) return absl::OutOfRangeError("all is hashed");
    while (front_ <= hashed_ && !is_stopped_) changed_.Wait(mutex_);
    if (is_stopped_) return absl::CancelledError("the file is not whole");
    at = hashed_;
    end = std::min(front_, at + kTileBytes);
    if (auto kept = kept_.begin(); kept != kept_.end()) {
      if (kept->first == at) {
        next = std::move(kept->second);
        kept_bytes_ -= next.size();
        kept_.erase(kept);
        end = at + next.size();
      } else {
        end = std::min(end, kept->first);
      }
    }
  }
  if (next.size() == 0) {
    tile_.resize(static_cast<size_t>(end - at));
    CAIRN_RETURN_IF_ERROR(file_.ReadAt(at, absl::MakeSpan(tile_)));
    hasher_.Update(tile_);
  }
  for (absl::string_view piece : next.pieces()) hasher_.Update(piece);
  MutexLock lock(mutex_);
  hashed_ = end;
  changed_.NotifyAll();
  return absl::OkStatus();
}

void TrailingHash::Run() {
  absl::Status status;
  while (status.ok()) status = HashSome();
  MutexLock lock(mutex_);
  if (!absl::IsOutOfRange(status)) status_ = status;
  is_stopped_ = true;
  changed_.NotifyAll();
}

absl::StatusOr<Digest> TrailingHash::Finish() {
  thread_.join();
  MutexLock lock(mutex_);
  CAIRN_RETURN_IF_ERROR(status_);
  return hasher_.Finish();
}

}  // namespace cairn
