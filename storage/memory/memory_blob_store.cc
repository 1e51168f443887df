#include "storage/memory/memory_blob_store.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

absl::Status NoBlob(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("no blob ", digest.hex()));
}

absl::Status CheckRange(int64_t offset, size_t size, int64_t end) {
  if (offset < 0 || offset > end || static_cast<int64_t>(size) > end - offset) {
    return absl::OutOfRangeError(absl::StrCat(
        "read of ", size, " bytes at ", offset, " passes the end at ", end));
  }
  return absl::OkStatus();
}

class SharedBytesSource : public ByteSource {
 public:
  explicit SharedBytesSource(std::shared_ptr<const std::string> bytes)
      : bytes_(std::move(bytes)) {}

  int64_t size() const override { return static_cast<int64_t>(bytes_->size()); }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(CheckRange(offset, out.size(), size()));
    if (!out.empty()) {
      std::memcpy(out.data(), bytes_->data() + offset, out.size());
    }
    return absl::OkStatus();
  }

 private:
  std::shared_ptr<const std::string> bytes_;
};

}  // namespace

class MemoryBlobWriter : public BlobWriter {
 public:
  MemoryBlobWriter(MemoryBlobStore& store, std::string id, std::string bytes)
      : store_(store), id_(std::move(id)), bytes_(std::move(bytes)) {}

  absl::Status AppendPieces(
      absl::Span<const absl::string_view> pieces) override {
    MutexLock lock(mutex_);
    for (absl::string_view piece : pieces) {
      bytes_.append(piece.data(), piece.size());
    }
    return absl::OkStatus();
  }
  absl::Status WriteOut() override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> Sync() override {
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(store_.SyncUpload(id_, bytes_));
    return static_cast<int64_t>(bytes_.size());
  }
  absl::StatusOr<int64_t> CatchUp(int64_t /*bytes_max*/) override {
    return size();  // memory is hashed at once, by Commit()
  }
  int64_t size() const override {
    MutexLock lock(mutex_);
    return static_cast<int64_t>(bytes_.size());
  }
  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override {
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(
        CheckRange(offset, out.size(), static_cast<int64_t>(bytes_.size())));
    if (!out.empty()) {
      std::memcpy(out.data(), bytes_.data() + offset, out.size());
    }
    return absl::OkStatus();
  }
  absl::Status Commit(const Digest& digest) && override {
    MutexLock lock(mutex_);
    Digest actual = Digest::Of(bytes_);
    if (actual != digest) {
      return absl::InvalidArgumentError(
          absl::StrCat("the bytes hash to ", actual.hex(), ", not to ",
                       digest.hex(), ": send them again"));
    }
    store_.CommitUpload(id_, digest, std::move(bytes_));
    return absl::OkStatus();
  }

 private:
  MemoryBlobStore& store_;
  const std::string id_;
  mutable Mutex mutex_;
  std::string bytes_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<BlobStat> MemoryBlobStore::Stat(const Digest& digest) const {
  MutexLock lock(mutex_);
  auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NoBlob(digest);
  return BlobStat{
      .digest = digest,
      .size_bytes = static_cast<int64_t>(it->second.bytes->size()),
      .stored_bytes = static_cast<int64_t>(it->second.bytes->size()),
      .stored_at = it->second.stored_at};
}

absl::StatusOr<std::unique_ptr<ByteSource>> MemoryBlobStore::Open(
    const Digest& digest) const {
  MutexLock lock(mutex_);
  auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NoBlob(digest);
  return std::make_unique<SharedBytesSource>(it->second.bytes);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::Begin(
    absl::string_view upload_id) {
  if (!IsUploadId(upload_id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", upload_id, "\" is not an upload id"));
  }
  std::string id(upload_id);
  MutexLock lock(mutex_);
  if (!uploads_.emplace(id, "").second) {
    return absl::AlreadyExistsError(absl::StrCat("upload ", id, " exists"));
  }
  return std::make_unique<MemoryBlobWriter>(*this, std::move(id), "");
}

absl::StatusOr<std::unique_ptr<BlobWriter>> MemoryBlobStore::Resume(
    absl::string_view upload_id) {
  std::string id(upload_id);
  MutexLock lock(mutex_);
  auto it = uploads_.find(id);
  if (it == uploads_.end()) {
    return absl::NotFoundError(absl::StrCat("no upload ", id));
  }
  return std::make_unique<MemoryBlobWriter>(*this, std::move(id), it->second);
}

absl::Status MemoryBlobStore::Abandon(absl::string_view upload_id) {
  MutexLock lock(mutex_);
  uploads_.erase(std::string(upload_id));
  return absl::OkStatus();
}

absl::StatusOr<Digest> MemoryBlobStore::Put(absl::string_view bytes) {
  Digest digest = Digest::Of(bytes);
  auto shared = std::make_shared<const std::string>(bytes);
  absl::Time now = clock_.Now();
  MutexLock lock(mutex_);
  blobs_[digest] = Blob{.bytes = std::move(shared), .stored_at = now};
  return digest;
}

absl::StatusOr<Digest> MemoryBlobStore::PutFrom(const ByteSource& source,
                                                FileHasher* whole) {
  CAIRN_ASSIGN_OR_RETURN(std::string bytes, ReadAll(source, source.size()));
  if (whole != nullptr) whole->Update(bytes);
  return Put(bytes);
}

absl::Status MemoryBlobStore::Touch(const Digest& digest) {
  absl::Time now = clock_.Now();
  MutexLock lock(mutex_);
  auto it = blobs_.find(digest);
  if (it == blobs_.end()) return NoBlob(digest);
  it->second.stored_at = now;
  return absl::OkStatus();
}

absl::Status MemoryBlobStore::Remove(const Digest& digest) {
  MutexLock lock(mutex_);
  blobs_.erase(digest);
  return absl::OkStatus();
}

absl::StatusOr<bool> MemoryBlobStore::RemoveIfOlder(const Digest& digest,
                                                    absl::Time cutoff) {
  MutexLock lock(mutex_);
  auto it = blobs_.find(digest);
  if (it == blobs_.end() || it->second.stored_at >= cutoff) return false;
  blobs_.erase(it);
  return true;
}

absl::Status MemoryBlobStore::ListFrom(
    const Digest& first,
    const std::function<bool(const BlobStat&)>& visit) const {
  std::vector<BlobStat> all;
  {
    MutexLock lock(mutex_);
    for (auto it = blobs_.lower_bound(first); it != blobs_.end(); ++it) {
      const auto size = static_cast<int64_t>(it->second.bytes->size());
      all.push_back({.digest = it->first,
                     .size_bytes = size,
                     .stored_bytes = size,
                     .stored_at = it->second.stored_at});
    }
  }
  for (const BlobStat& stat : all) {
    if (!visit(stat)) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemoryBlobStore::ListUploads() const {
  MutexLock lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, bytes] : uploads_) ids.push_back(id);
  return ids;
}

absl::Status MemoryBlobStore::SyncUpload(const std::string& id,
                                         const std::string& bytes) {
  MutexLock lock(mutex_);
  auto it = uploads_.find(id);
  if (it == uploads_.end()) {
    return absl::NotFoundError(absl::StrCat("upload ", id, " was dropped"));
  }
  it->second.append(bytes, it->second.size());
  return absl::OkStatus();
}

void MemoryBlobStore::CommitUpload(const std::string& id, const Digest& digest,
                                   std::string bytes) {
  auto shared = std::make_shared<const std::string>(std::move(bytes));
  absl::Time now = clock_.Now();
  MutexLock lock(mutex_);
  uploads_[id] = *shared;
  blobs_[digest] = Blob{.bytes = std::move(shared), .stored_at = now};
}

}  // namespace cairn
