#include "storage/fs/fs_blob_writer.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Small enough to be hashed out of the processor's cache.
constexpr int64_t kTileBytes = 256 << 10;
// So many buffers may wait for the hash.
constexpr size_t kKeptMax = 4;
// Less is hashed at once.
constexpr size_t kKeptBytesMin = 128 << 10;
// So much may wait to be written before one more is appended.
constexpr int64_t kWaitingMax = 1 << 20;
// Uploads that are shorter are not worth a descriptor more.
constexpr int64_t kDirectBytesMin = 256 << 10;

}  // namespace

FsBlobWriter::FsBlobWriter(std::shared_ptr<BlobLayout> layout, PosixFile file,
                           int64_t size)
    : layout_(std::move(layout)),
      file_(std::move(file)),
      size_(size),
      written_(size),
      appender_(written_file_, size, [this](FileBytes bytes) {
        MutexLock lock(keep_);
        waiting_.push_back(std::move(bytes));
      }) {
  written_file_.name = file_.path();
  written_file_.fd = file_.fd();
}

absl::Status FsBlobWriter::AppendPieces(
    absl::Span<const absl::string_view> pieces) {
  int64_t added = 0;
  for (absl::string_view piece : pieces) {
    added += static_cast<int64_t>(piece.size());
  }
  CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(added));
  MutexLock lock(append_);
  if (written_file_.direct_fd < 0 && written_file_.is_direct &&
      size_ + added >= kDirectBytesMin) {
    MutexLock write_lock(write_);
    written_file_.direct_fd = OpenDirect(file_.path());
    written_file_.is_direct = written_file_.direct_fd >= 0;
  }
  while (WaitingBytes() > kWaitingMax) {
    MutexLock write_lock(write_);
    CAIRN_RETURN_IF_ERROR(WriteNext());
  }
  CAIRN_RETURN_IF_ERROR(appender_.Append(pieces));
  size_ = appender_.end();
  return absl::OkStatus();
}

int64_t FsBlobWriter::WaitingBytes() const {
  MutexLock lock(keep_);
  if (waiting_.empty()) return 0;
  const FileBytes& last = waiting_.back();
  return last.offset + static_cast<int64_t>(last.view().size()) - written_;
}

absl::Status FsBlobWriter::WriteOut() {
  // Also waits for what another thread writes.
  do {
    MutexLock lock(write_);
    CAIRN_RETURN_IF_ERROR(WriteNext());
  } while (WaitingBytes() > 0);
  return absl::OkStatus();
}

absl::Status FsBlobWriter::WriteNext() {
  FileBytes next;
  {
    MutexLock lock(keep_);
    if (waiting_.empty()) return absl::OkStatus();  // somebody else wrote it
    next = std::move(waiting_.front());
    waiting_.pop_front();
  }
  const auto size = static_cast<int64_t>(next.view().size());
  absl::Status status = BeforeWrite();
  if (status.ok()) status = next.WriteTo(written_file_);
  if (!status.ok()) {
    {
      MutexLock lock(keep_);
      waiting_.push_front(std::move(next));
    }
    CAIRN_RETURN_IF_ERROR(file_.Truncate(written_));
    return absl::IsInternal(status) ? absl::UnavailableError(status.message())
                                    : status;
  }
  Keep(std::move(next));
  written_ += size;
  return absl::OkStatus();
}

absl::Status FsBlobWriter::Flush() {
  CAIRN_RETURN_IF_ERROR(appender_.Flush());
  return WriteOut();
}

absl::StatusOr<int64_t> FsBlobWriter::Sync() {
  int64_t appended = 0;
  {
    MutexLock lock(append_);
    CAIRN_RETURN_IF_ERROR(Flush());
    appended = written_;
  }
  {
    // Who only waits for more bytes holds no memory.
    MutexLock lock(hash_);
    while (hashed_ < appended && HashKept()) continue;
  }
  CAIRN_RETURN_IF_ERROR(file_.SyncBytes());
  return appended;
}

int64_t FsBlobWriter::FirstKept(int64_t none) const {
  MutexLock lock(keep_);
  return kept_.empty() ? none : kept_.front().offset;
}

void FsBlobWriter::Keep(FileBytes bytes) {
  {
    MutexLock lock(keep_);
    const bool has_room = kept_.size() < kKeptMax;
    // A stream of small messages is slow, or one of many: it is to hold little.
    const bool is_for_later = bytes.view().size() >= kKeptBytesMin;
    if (has_room) kept_.push_back(std::move(bytes));
    if (has_room && is_for_later) return;
    // A hash that is far back reads the file, and will read this, too.
    if (kept_.front().offset - hashed_ >
        static_cast<int64_t>(DirectAppender::kBufferBytes)) {
      return;
    }
  }
  MutexLock hash_lock(hash_);
  HashKept();
  if (bytes.memory == nullptr) return;
  MutexLock lock(keep_);
  kept_.push_back(std::move(bytes));
}

bool FsBlobWriter::HashKept() {
  FileBytes next;
  {
    MutexLock lock(keep_);
    if (kept_.empty() || kept_.front().offset != hashed_) return false;
    next = std::move(kept_.front());
    kept_.pop_front();
  }
  hasher_.Update(next.view());
  hashed_ += static_cast<int64_t>(next.view().size());
  return true;
}

absl::StatusOr<int64_t> FsBlobWriter::CatchUp(int64_t bytes_max) {
  MutexLock lock(hash_);
  const int64_t end = std::min(hashed_ + bytes_max, written_.load());
  std::string tile;
  while (hashed_ < end) {
    if (HashKept()) continue;
    const int64_t there = std::min(end, FirstKept(end));
    tile.resize(static_cast<size_t>(std::min(kTileBytes, there - hashed_)));
    CAIRN_RETURN_IF_ERROR(file_.ReadAt(hashed_, absl::MakeSpan(tile), there));
    hasher_.Update(tile);
    hashed_ += static_cast<int64_t>(tile.size());
  }
  return hashed_.load();
}

absl::Status FsBlobWriter::ReadBack(int64_t offset,
                                    absl::Span<char> out) const {
  MutexLock lock(append_);
  const int64_t end = offset + static_cast<int64_t>(out.size());
  if (end > appender_.end()) {
    return absl::OutOfRangeError(absl::StrCat("bytes ", offset, "+", out.size(),
                                              " of an upload of ",
                                              appender_.end(), " bytes"));
  }
  // The part of `out` from one place of the upload to another.
  const auto part = [&](int64_t from, int64_t to) {
    from = std::clamp(from, offset, end);
    to = std::clamp(to, from, end);
    return out.subspan(static_cast<size_t>(from - offset),
                       static_cast<size_t>(to - from));
  };
  MutexLock write_lock(write_);
  const int64_t written = written_;
  CAIRN_RETURN_IF_ERROR(
      file_.ReadAt(offset, part(0, written), std::max(offset, written)));
  {
    MutexLock keep_lock(keep_);
    for (const FileBytes& bytes : waiting_) {
      const absl::string_view view = bytes.view();
      const auto to =
          part(bytes.offset, bytes.offset + static_cast<int64_t>(view.size()));
      if (to.empty()) continue;
      const int64_t from = std::max(offset, bytes.offset) - bytes.offset;
      std::memcpy(to.data(), view.data() + from, to.size());
    }
  }
  const int64_t given = appender_.written();
  appender_.ReadUnwritten(std::max(offset, given), part(given, end));
  return absl::OkStatus();
}

absl::Status FsBlobWriter::Commit(const Digest& digest) && {
  {
    MutexLock lock(append_);
    CAIRN_RETURN_IF_ERROR(Flush());
  }
  CAIRN_RETURN_IF_ERROR(CatchUp(size_).status());
  MutexLock lock(hash_);
  const Digest actual = hasher_.Finish();
  if (actual != digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the bytes hash to ", actual.hex(), ", not to ",
                     digest.hex(), ": send them again"));
  }
  return layout_->PublishUpload(file_, digest);
}

}  // namespace cairn
