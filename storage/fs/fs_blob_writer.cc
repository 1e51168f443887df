#include "storage/fs/fs_blob_writer.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

}  // namespace

absl::Status FsBlobWriter::Append(absl::string_view bytes) {
  const auto added = static_cast<int64_t>(bytes.size());
  CAIRN_RETURN_IF_ERROR(layout_->CheckSpace(added));
  CAIRN_RETURN_IF_ERROR(file_.WriteAt(size_, bytes));
  file_.StartWriteback(size_, added);
  if (hashed_ == size_) {
    hasher_.Update(bytes);
    hashed_ += added;
  }
  size_ += added;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> FsBlobWriter::Sync() {
  CAIRN_RETURN_IF_ERROR(file_.SyncBytes());
  return size_;
}

absl::Status FsBlobWriter::ReadBack(int64_t offset,
                                    absl::Span<char> out) const {
  return file_.ReadAt(offset, out, size_);
}

absl::Status FsBlobWriter::Commit(const Digest& digest) && {
  CAIRN_RETURN_IF_ERROR(HashRest());
  const Digest actual = hasher_.Finish();
  if (actual != digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the bytes hash to ", actual.hex(), ", not to ",
                     digest.hex(), ": send them again"));
  }
  return layout_->PublishUpload(file_, digest);
}

absl::Status FsBlobWriter::HashRest() {
  std::string buffer;
  while (hashed_ < size_) {
    buffer.resize(static_cast<size_t>(std::min(kTileBytes, size_ - hashed_)));
    CAIRN_RETURN_IF_ERROR(ReadBack(hashed_, absl::MakeSpan(buffer)));
    hasher_.Update(buffer);
    hashed_ += static_cast<int64_t>(buffer.size());
  }
  return absl::OkStatus();
}

}  // namespace cairn
