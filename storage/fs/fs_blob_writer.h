#ifndef CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
#define CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_

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
  // `size`: bytes there already, which are hashed when the upload ends.
  FsBlobWriter(std::shared_ptr<BlobLayout> layout, PosixFile file, int64_t size)
      : layout_(std::move(layout)), file_(std::move(file)), size_(size) {}

  absl::Status Append(absl::string_view bytes) override;
  absl::StatusOr<int64_t> Sync() override;
  int64_t size() const override { return size_; }
  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override;
  absl::Status Commit(const Digest& digest) && override;

 private:
  absl::Status HashRest();

  const std::shared_ptr<BlobLayout> layout_;
  PosixFile file_;
  int64_t size_;
  // Covers the first `hashed_` bytes: all of them, unless resumed.
  Hasher hasher_;
  int64_t hashed_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
