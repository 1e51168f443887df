#include "core/rpc/file_download.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/direct_appender.h"
#include "core/base/status_macros.h"
#include "core/rpc/limits.h"
#include "core/rpc/range_download.h"

namespace cairn {
namespace {

// What one connection asks for at a time: little, so that the hash, which goes
// from front to back, is not far behind any of them; more when that takes so
// long that the line is slow, perhaps a long one with a round trip a range.
constexpr int64_t kRangeBytes = 8 << 20;
constexpr int64_t kSlowRangeBytes = 32 << 20;
constexpr absl::Duration kSlowRangeTime = absl::Milliseconds(500);
// How often it is noted how far the file is.
constexpr int64_t kNoteBytes = 32 << 20;
// A further connection that takes longer is done without.
constexpr absl::Duration kConnectTime = absl::Seconds(5);
// Breaks that one further connection may have; the first one has patience.
constexpr int kBreaksMax = 5;

}  // namespace

FileDownload::FileDownload(HubChannel& hub, PartFile& file, Options options)
    : hub_(hub),
      file_(file),
      options_(std::move(options)),
      hash_(file, options_.size_bytes),
      untouched_(file.found()),
      noted_(file.found()) {}

int64_t FileDownload::Front() const {
  int64_t front = untouched_;
  if (!broken_.empty()) front = std::min(front, broken_.begin()->first);
  for (const auto& [end, at] : under_way_) front = std::min(front, at);
  return front;
}

int64_t FileDownload::RangeBytes() const {
  if (!is_slow_) return kRangeBytes;
  // Towards the end less, so that all of them end together.
  return std::clamp((options_.size_bytes - untouched_) / kSlowDownloadLanes,
                    kRangeBytes, kSlowRangeBytes);
}

void FileDownload::NoteTime(const Range& range, absl::Duration taken) {
  if (range.end - range.begin < kRangeBytes || taken < kSlowRangeTime) return;
  MutexLock lock(mutex_);
  is_slow_ = true;
  changed_.NotifyAll();
}

bool FileDownload::IsWanted(int lane) {
  MutexLock lock(mutex_);
  const auto is_over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !status_.ok() || (untouched_ == options_.size_bytes &&
                             broken_.empty() && under_way_.empty());
  };
  while (lane >= kDownloadLanes && !is_slow_ && !is_over()) {
    changed_.Wait(mutex_);
  }
  return !is_over();
}

std::optional<FileDownload::Range> FileDownload::TakeRange() {
  MutexLock lock(mutex_);
  while (status_.ok()) {
    Range range;
    if (!broken_.empty()) {
      range = {.begin = broken_.begin()->first, .end = broken_.begin()->second};
      broken_.erase(broken_.begin());
    } else if (untouched_ < options_.size_bytes) {
      // Those who append share no page.
      const int64_t end = untouched_ + RangeBytes();
      range = {.begin = untouched_,
               .end = std::min(options_.size_bytes,
                               end - end % static_cast<int64_t>(kDirectPage))};
      untouched_ = range.end;
    } else if (under_way_.empty()) {
      return std::nullopt;
    } else {
      changed_.Wait(mutex_);
      continue;
    }
    under_way_[range.end] = range.begin;
    return range;
  }
  return std::nullopt;
}

void FileDownload::GiveBack(const Range& range) {
  MutexLock lock(mutex_);
  under_way_.erase(range.end);
  if (range.begin < range.end) broken_[range.begin] = range.end;
  hash_.Advance(Front());
  changed_.NotifyAll();
}

void FileDownload::Fail(const absl::Status& status) {
  MutexLock lock(mutex_);
  status_.Update(status);
  hash_.Stop();
  changed_.NotifyAll();
}

absl::Status FileDownload::Fetch(int lane, const Range& range) {
  v1::ReadRequest request = options_.request;
  request.set_offset(range.begin);
  request.set_limit(range.end - range.begin);
  DirectAppender file = file_.AppendAt(range.begin);
  auto sink = [&](ChunkBytes& chunk) -> absl::Status {
    const int64_t at = file.end();
    const int64_t size = chunk.size();
    if (size > range.end - at) {
      return absl::DataLossError("the hub sent more than asked for");
    }
    CAIRN_RETURN_IF_ERROR(file.Append(chunk.pieces()));
    hash_.Offer(at, std::move(chunk));
    if (file.end() == range.end) CAIRN_RETURN_IF_ERROR(file.Flush());
    return Reached(range, file.written(), size);
  };
  RangeDownload::Options how{.lane = lane};
  if (lane > 0) how.patience = absl::ZeroDuration();
  absl::Status status = RangeDownload(hub_, request, sink, how).Run();
  status.Update(file.Flush());
  if (status.ok() && file.end() < range.end) {
    status = absl::DataLossError(absl::StrCat(
        "the hub ended at byte ", file.end(), " of ", options_.size_bytes));
  }
  GiveBack({.begin = file.written(), .end = range.end});
  return status;
}

absl::Status FileDownload::Reached(const Range& range, int64_t at,
                                   int64_t received) {
  MutexLock lock(mutex_);
  CAIRN_RETURN_IF_ERROR(status_);
  under_way_[range.end] = at;
  if (options_.progress) options_.progress(received);
  const int64_t front = Front();
  hash_.Advance(front);
  if (front - noted_ < kNoteBytes) return absl::OkStatus();
  noted_ = front;
  return file_.Note(front);
}

void FileDownload::Lane(int index) {
  if (!IsWanted(index)) return;
  if (index > 0 && !hub_.Lane(index)->WaitForConnected(
                       absl::ToChronoTime(absl::Now() + kConnectTime))) {
    return;
  }
  Backoff backoff;
  int breaks = 0;
  while (std::optional<Range> range = TakeRange()) {
    const absl::Time start = absl::Now();
    absl::Status status = Fetch(index, *range);
    if (status.ok()) {
      NoteTime(*range, absl::Now() - start);
      continue;
    }
    if (index == 0 || !IsTransient(status)) return Fail(status);
    // The others go on with it, and this one too after a while.
    if (++breaks > kBreaksMax || !hub_.Sleep(backoff.Next(status)).ok()) return;
  }
}

absl::StatusOr<Digest> FileDownload::Run() {
  if (options_.progress && file_.found() > 0) options_.progress(file_.found());
  hash_.Advance(file_.found());
  {
    std::vector<std::jthread> others;
    const bool is_large =
        options_.size_bytes - file_.found() >= kSharedDownloadBytesMin;
    for (int i = 1; is_large && i < kSlowDownloadLanes; ++i) {
      others.emplace_back([this, i] { Lane(i); });
    }
    Lane(0);
  }
  {
    MutexLock lock(mutex_);
    // Broken off: what is there from the front is worth keeping.
    if (!status_.ok()) {
      (void)file_.Note(Front());
      return status_;
    }
  }
  return hash_.Finish();
}

}  // namespace cairn
