#include "storage/fs/fs_blob_writer.h"

#include <algorithm>
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
// Uploads that are shorter are not worth a descriptor more.
constexpr int64_t kDirectBytesMin = 256 << 10;

}  // namespace

FsBlobWriter::FsBlobWriter(std::shared_ptr<BlobLayout> layout, PosixFile file,
                           int64_t size)
    : layout_(std::move(layout)),
      file_(std::move(file)),
      size_(size),
      written_(size),
      appender_(written_file_, size,
                [this](WrittenBytes bytes) { Keep(std::move(bytes)); }) {
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
    written_file_.direct_fd = OpenDirect(file_.path());
    written_file_.is_direct = written_file_.direct_fd >= 0;
  }
  CAIRN_RETURN_IF_ERROR(BeforeWrite());
  const absl::Status status = appender_.Append(pieces);
  if (!status.ok()) return Failed(status);
  written_ = appender_.written();
  size_ = appender_.end();
  return absl::OkStatus();
}

absl::Status FsBlobWriter::Failed(const absl::Status& status) {
  const absl::Status cut = file_.Truncate(appender_.written());
  if (!cut.ok()) return cut;
  if (!absl::IsInternal(status)) return status;
  return absl::UnavailableError(status.message());
}

absl::Status FsBlobWriter::Flush() {
  if (appender_.written() < appender_.end()) {
    CAIRN_RETURN_IF_ERROR(BeforeWrite());
  }
  const absl::Status status = appender_.Flush();
  if (!status.ok()) return Failed(status);
  written_ = appender_.written();
  return absl::OkStatus();
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

void FsBlobWriter::Keep(WrittenBytes bytes) {
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
  WrittenBytes next;
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
  const int64_t in_file = std::clamp<int64_t>(appender_.written() - offset, 0,
                                              static_cast<int64_t>(out.size()));
  const auto unwritten = out.subspan(static_cast<size_t>(in_file));
  if (offset + static_cast<int64_t>(out.size()) > appender_.end()) {
    return absl::OutOfRangeError(absl::StrCat("bytes ", offset, "+", out.size(),
                                              " of an upload of ",
                                              appender_.end(), " bytes"));
  }
  CAIRN_RETURN_IF_ERROR(file_.ReadAt(offset,
                                     out.first(static_cast<size_t>(in_file)),
                                     std::max(offset, appender_.written())));
  appender_.ReadUnwritten(offset + in_file, unwritten);
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
