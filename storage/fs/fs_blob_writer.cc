#include "storage/fs/fs_blob_writer.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Small enough to be hashed out of the processor's cache.
constexpr int64_t kTileBytes = 256 << 10;
// The disk is set to work after so many bytes.
constexpr int64_t kWritebackBytes = 4 << 20;

}  // namespace

absl::Status FsBlobWriter::AppendPieces(
    absl::Span<const absl::string_view> pieces) {
  const int64_t start = size_;
  int64_t added = 0;
  for (absl::string_view piece : pieces) {
    added += static_cast<int64_t>(piece.size());
  }
  CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(added));
  CAIRN_RETURN_IF_ERROR(file_.WritePiecesAt(start, pieces));
  const int64_t end = start + added;
  size_ = end;
  if (end - written_back_ < kWritebackBytes) return absl::OkStatus();
  file_.StartWriteback(written_back_, end - written_back_);
  written_back_ = end;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FsBlobWriter::Sync() {
  const int64_t appended = size_;
  CAIRN_RETURN_IF_ERROR(file_.SyncBytes());
  return appended;
}

absl::StatusOr<int64_t> FsBlobWriter::CatchUp(int64_t bytes_max) {
  const int64_t end = hashed_ + std::min(bytes_max, size_ - hashed_);
  std::string tile;
  while (hashed_ < end) {
    tile.resize(static_cast<size_t>(std::min(kTileBytes, end - hashed_)));
    CAIRN_RETURN_IF_ERROR(ReadBack(hashed_, absl::MakeSpan(tile)));
    hasher_.Update(tile);
    hashed_ += static_cast<int64_t>(tile.size());
  }
  return hashed_;
}

absl::Status FsBlobWriter::ReadBack(int64_t offset,
                                    absl::Span<char> out) const {
  return file_.ReadAt(offset, out, size_);
}

absl::Status FsBlobWriter::Commit(const Digest& digest) && {
  CAIRN_RETURN_IF_ERROR(CatchUp(size_).status());
  const Digest actual = hasher_.Finish();
  if (actual != digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the bytes hash to ", actual.hex(), ", not to ",
                     digest.hex(), ": send them again"));
  }
  return layout_->PublishUpload(file_, digest);
}

}  // namespace cairn
