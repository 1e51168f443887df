#include "storage/testing/faulty_blob_store.h"

#include <utility>

#include "core/base/status_macros.h"

namespace cairn::testing {
namespace {

using Plan = FaultyBlobStore::Plan;

class FaultySource : public ByteSource {
 public:
  FaultySource(std::unique_ptr<ByteSource> source, std::shared_ptr<Plan> plan)
      : source_(std::move(source)), plan_(std::move(plan)) {}

  int64_t size() const override { return source_->size(); }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kRead));
    return source_->ReadAt(offset, out);
  }

 private:
  const std::unique_ptr<ByteSource> source_;
  const std::shared_ptr<Plan> plan_;
};

class FaultyWriter : public BlobWriter {
 public:
  FaultyWriter(std::unique_ptr<BlobWriter> writer, std::shared_ptr<Plan> plan)
      : writer_(std::move(writer)), plan_(std::move(plan)) {}

  absl::Status AppendPieces(
      absl::Span<const absl::string_view> pieces) override {
    CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kAppend));
    return writer_->AppendPieces(pieces);
  }
  absl::Status WriteOut() override { return writer_->WriteOut(); }
  absl::StatusOr<int64_t> Sync() override {
    CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kSync));
    return writer_->Sync();
  }
  absl::StatusOr<int64_t> CatchUp(int64_t bytes_max) override {
    return writer_->CatchUp(bytes_max);
  }
  int64_t size() const override { return writer_->size(); }
  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override {
    return writer_->ReadBack(offset, out);
  }
  absl::Status Commit(const Digest& digest) && override {
    CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kCommit));
    return std::move(*writer_).Commit(digest);
  }

 private:
  const std::unique_ptr<BlobWriter> writer_;
  const std::shared_ptr<Plan> plan_;
};

}  // namespace

void FaultyBlobStore::Plan::Add(BlobFault fault, int nth, absl::Status status) {
  MutexLock lock(mutex_);
  entries_.push_back(
      {.fault = fault, .calls_left = nth, .status = std::move(status)});
}

void FaultyBlobStore::Plan::Clear() {
  MutexLock lock(mutex_);
  entries_.clear();
}

absl::Status FaultyBlobStore::Plan::Check(BlobFault fault) {
  MutexLock lock(mutex_);
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->fault != fault) continue;
    if (it->calls_left == 0) return it->status;
    if (--it->calls_left > 0) continue;
    absl::Status status = it->status;
    entries_.erase(it);
    return status;
  }
  return absl::OkStatus();
}

void FaultyBlobStore::FailNth(BlobFault fault, int nth, absl::Status status) {
  plan_->Add(fault, nth, std::move(status));
}

void FaultyBlobStore::FailAlways(BlobFault fault, absl::Status status) {
  plan_->Add(fault, 0, std::move(status));
}

void FaultyBlobStore::Heal() { plan_->Clear(); }

absl::StatusOr<BlobStat> FaultyBlobStore::Stat(const Digest& digest) const {
  return store_.Stat(digest);
}

absl::StatusOr<std::unique_ptr<ByteSource>> FaultyBlobStore::Open(
    const Digest& digest) const {
  CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kOpen));
  CAIRN_ASSIGN_OR_RETURN(auto source, store_.Open(digest));
  return std::make_unique<FaultySource>(std::move(source), plan_);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> FaultyBlobStore::Begin(
    absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(auto writer, store_.Begin(upload_id));
  return std::make_unique<FaultyWriter>(std::move(writer), plan_);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> FaultyBlobStore::Resume(
    absl::string_view upload_id) {
  CAIRN_ASSIGN_OR_RETURN(auto writer, store_.Resume(upload_id));
  return std::make_unique<FaultyWriter>(std::move(writer), plan_);
}

absl::Status FaultyBlobStore::Abandon(absl::string_view upload_id) {
  return store_.Abandon(upload_id);
}

absl::StatusOr<Digest> FaultyBlobStore::Put(absl::string_view bytes) {
  CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kPut));
  return store_.Put(bytes);
}

absl::StatusOr<Digest> FaultyBlobStore::PutFrom(const ByteSource& source,
                                                FileHasher* whole) {
  CAIRN_RETURN_IF_ERROR(plan_->Check(BlobFault::kPut));
  return store_.PutFrom(source, whole);
}

absl::Status FaultyBlobStore::Touch(const Digest& digest) {
  return store_.Touch(digest);
}

absl::Status FaultyBlobStore::Remove(const Digest& digest) {
  return store_.Remove(digest);
}

absl::StatusOr<bool> FaultyBlobStore::RemoveIfOlder(const Digest& digest,
                                                    absl::Time cutoff) {
  return store_.RemoveIfOlder(digest, cutoff);
}

absl::Status FaultyBlobStore::ListFrom(
    const Digest& first,
    const std::function<bool(const BlobStat&)>& visit) const {
  return store_.ListFrom(first, visit);
}

absl::StatusOr<std::vector<std::string>> FaultyBlobStore::ListUploads() const {
  return store_.ListUploads();
}

}  // namespace cairn::testing
