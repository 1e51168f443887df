#include "core/rpc/file_download.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/rpc/limits.h"
#include "core/rpc/range_download.h"

namespace cairn {
namespace {

// What one connection asks for at a time.
constexpr int64_t kRangeBytes = 32 << 20;
constexpr int64_t kWritebackBytes = 4 << 20;
constexpr int64_t kHashTileBytes = 256 << 10;
// A further connection that takes longer is done without.
constexpr absl::Duration kConnectTime = absl::Seconds(5);
// Breaks that one further connection may have; the first one has patience.
constexpr int kBreaksMax = 5;

}  // namespace

FileDownload::FileDownload(HubChannel& hub, PartFile& file, Options options)
    : hub_(hub),
      file_(file),
      options_(std::move(options)),
      untouched_(file.found()),
      noted_(file.found()) {}

int64_t FileDownload::Front() const {
  int64_t front = untouched_;
  if (!broken_.empty()) front = std::min(front, broken_.begin()->first);
  for (const auto& [end, at] : under_way_) front = std::min(front, at);
  return front;
}

std::optional<FileDownload::Range> FileDownload::TakeRange() {
  MutexLock lock(mutex_);
  while (status_.ok()) {
    Range range;
    if (!broken_.empty()) {
      range = {.begin = broken_.begin()->first, .end = broken_.begin()->second};
      broken_.erase(broken_.begin());
    } else if (untouched_ < options_.size_bytes) {
      range = {.begin = untouched_,
               .end = std::min(options_.size_bytes, untouched_ + kRangeBytes)};
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
  changed_.NotifyAll();
}

void FileDownload::Fail(const absl::Status& status) {
  MutexLock lock(mutex_);
  status_.Update(status);
  changed_.NotifyAll();
}

absl::Status FileDownload::Fetch(int lane, const Range& range) {
  v1::ReadRequest request = options_.request;
  request.set_offset(range.begin);
  request.set_limit(range.end - range.begin);
  int64_t at = range.begin;
  int64_t written_back = range.begin;
  auto sink = [&](absl::string_view bytes) -> absl::Status {
    const auto size = static_cast<int64_t>(bytes.size());
    if (size > range.end - at) {
      return absl::DataLossError("the hub sent more than asked for");
    }
    CAIRN_RETURN_IF_ERROR(file_.WriteAt(at, bytes));
    at += size;
    if (at - written_back >= kWritebackBytes || at == range.end) {
      file_.StartWriteback(written_back, at - written_back);
      written_back = at;
    }
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(status_);
    under_way_[range.end] = at;
    changed_.NotifyAll();
    if (options_.progress) options_.progress(size);
    const int64_t front = Front();
    if (front - noted_ < kRangeBytes) return absl::OkStatus();
    noted_ = front;
    return file_.Note(front);
  };
  RangeDownload::Options how{.lane = lane};
  if (lane > 0) how.patience = absl::ZeroDuration();
  absl::Status status = RangeDownload(hub_, request, sink, how).Run();
  if (status.ok() && at < range.end) {
    status = absl::DataLossError(absl::StrCat("the hub ended at byte ", at,
                                              " of ", options_.size_bytes));
  }
  GiveBack({.begin = at, .end = range.end});
  return status;
}

void FileDownload::Lane(int index) {
  if (index > 0 && !hub_.Lane(index)->WaitForConnected(
                       absl::ToChronoTime(absl::Now() + kConnectTime))) {
    return;
  }
  Backoff backoff;
  int breaks = 0;
  while (std::optional<Range> range = TakeRange()) {
    absl::Status status = Fetch(index, *range);
    if (status.ok()) continue;
    if (index == 0 || !IsTransient(status)) return Fail(status);
    // The others go on with it, and this one too after a while.
    if (++breaks > kBreaksMax || !hub_.Sleep(backoff.Next(status)).ok()) return;
  }
}

int64_t FileDownload::WaitForMore(int64_t hashed) {
  MutexLock lock(mutex_);
  while (status_.ok() && Front() <= hashed) changed_.Wait(mutex_);
  return status_.ok() ? Front() : hashed;
}

void FileDownload::Hash() {
  std::string tile;
  for (int64_t hashed = 0; hashed < options_.size_bytes;) {
    const int64_t front = WaitForMore(hashed);
    if (front == hashed) return;  // the download failed
    while (hashed < front) {
      tile.resize(
          static_cast<size_t>(std::min(kHashTileBytes, front - hashed)));
      absl::Status status = file_.ReadAt(hashed, absl::MakeSpan(tile));
      if (!status.ok()) return Fail(status);
      hasher_.Update(tile);
      hashed += static_cast<int64_t>(tile.size());
    }
  }
}

absl::StatusOr<Digest> FileDownload::Run() {
  if (options_.progress && file_.found() > 0) options_.progress(file_.found());
  {
    std::vector<std::jthread> others;
    others.emplace_back([this] { Hash(); });
    const bool is_large =
        options_.size_bytes - file_.found() >= kSharedDownloadBytesMin;
    for (int i = 1; is_large && i < kDownloadLanes; ++i) {
      others.emplace_back([this, i] { Lane(i); });
    }
    Lane(0);
  }
  MutexLock lock(mutex_);
  // Broken off: what is there from the front is worth keeping.
  if (!status_.ok()) {
    (void)file_.Note(Front());
    return status_;
  }
  return hasher_.Finish();
}

}  // namespace cairn
