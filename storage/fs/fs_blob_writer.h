#ifndef CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
#define CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/base/digest.h"
#include "storage/blob_store.h"
#include "storage/fs/blob_layout.h"
#include "storage/fs/posix_file.h"

namespace cairn {

// An upload of an FsBlobStore, which it may outlive: they share the layout.
class FsBlobWriter : public BlobWriter {
 public:
  // `size`: bytes there already.
  FsBlobWriter(std::shared_ptr<BlobLayout> layout, PosixFile file, int64_t size)
      : layout_(std::move(layout)),
        file_(std::move(file)),
        size_(size),
        written_back_(size) {}

  absl::Status AppendPieces(
      absl::Span<const absl::string_view> pieces) override;
  absl::StatusOr<int64_t> Sync() override;
  absl::StatusOr<int64_t> CatchUp(int64_t bytes_max) override;
  int64_t size() const override { return size_; }
  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override;
  absl::Status Commit(const Digest& digest) && override;

 private:
  const std::shared_ptr<BlobLayout> layout_;
  PosixFile file_;
  std::atomic<int64_t> size_;
  // Where the disk was not set to work yet.
  int64_t written_back_;
  // Covers the first `hashed_` bytes.
  Hasher hasher_;
  int64_t hashed_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
