#include "core/rpc/blob_upload.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/large_upload.h"
#include "core/rpc/limits.h"

namespace cairn {
namespace {

using v1::UploadService;

// Blobs up to this size travel in batches.
constexpr int64_t kSmallBlobBytes = 1 << 20;
constexpr size_t kBatchItemsMax = 1000;
// Of blobs that are sent over several connections each: one travels while
// another is begun or finished, which takes round trips and the disk's time.
constexpr int kLargeAtOnce = 2;

class Uploader {
 public:
  Uploader(HubChannel& hub, const TransferProgress& progress)
      : hub_(hub), progress_(progress) {}

  absl::Status SendBatched(absl::Span<const OutgoingBlob* const> blobs);
  // Each through an upload of its own, so many at once.
  absl::Status SendSingly(absl::Span<const OutgoingBlob* const> blobs,
                          int at_once);
  absl::Status SendLarge(const OutgoingBlob& blob, int lane);
  void Done(int64_t bytes) {
    MutexLock lock(mutex_);
    if (progress_ && bytes != 0) progress_(bytes);
  }
  // Turns a large blob's absolute progress into steps.
  std::function<void(int64_t)> Steps() {
    return [this, reported = int64_t{0}](int64_t bytes) mutable {
      Done(bytes - reported);
      reported = bytes;
    };
  }

 private:
  absl::Status SendBatch(const v1::BatchUploadRequest& batch);

  HubChannel& hub_;
  const TransferProgress& progress_;
  Mutex mutex_;  // for one call of progress_ at a time
};

absl::Status Uploader::SendBatched(
    absl::Span<const OutgoingBlob* const> blobs) {
  v1::BatchUploadRequest batch;
  int64_t bytes = 0;
  for (const OutgoingBlob* blob : blobs) {
    if (bytes + blob->size_bytes > kBatchUploadBytesMax ||
        static_cast<size_t>(batch.items_size()) >= kBatchItemsMax) {
      CAIRN_RETURN_IF_ERROR(SendBatch(batch));
      batch.Clear();
      bytes = 0;
    }
    auto* item = batch.add_items();
    item->set_sha256(blob->sha256.hex());
    item->mutable_data()->resize(static_cast<size_t>(blob->size_bytes));
    CAIRN_RETURN_IF_ERROR(blob->source->ReadAt(
        blob->offset, absl::MakeSpan(*item->mutable_data())));
    bytes += blob->size_bytes;
  }
  return batch.items_size() > 0 ? SendBatch(batch) : absl::OkStatus();
}

absl::Status Uploader::SendBatch(const v1::BatchUploadRequest& batch) {
  CAIRN_RETURN_IF_ERROR(hub_.Call(&UploadService::Stub::BatchUpload, batch,
                                  {.deadline = absl::Minutes(2)}));
  for (const auto& item : batch.items()) {
    Done(static_cast<int64_t>(item.data().size()));
  }
  return absl::OkStatus();
}

absl::Status Uploader::SendSingly(absl::Span<const OutgoingBlob* const> blobs,
                                  int at_once) {
  Mutex mutex;
  size_t next = 0;
  absl::Status failure;
  auto send = [&](int lane) {
    while (true) {
      const OutgoingBlob* blob = nullptr;
      {
        MutexLock lock(mutex);
        if (!failure.ok() || next == blobs.size()) return;
        blob = blobs[next++];
      }
      absl::Status sent = SendLarge(*blob, lane);
      MutexLock lock(mutex);
      failure.Update(sent);
    }
  };
  {
    const int lanes = std::min(at_once, static_cast<int>(blobs.size()));
    std::vector<std::jthread> others;
    for (int lane = 1; lane < lanes; ++lane) others.emplace_back(send, lane);
    send(0);
  }
  return failure;
}

absl::Status Uploader::SendLarge(const OutgoingBlob& blob, int lane) {
  return LargeUpload(hub_, {.source = blob.source.get(),
                            .offset = blob.offset,
                            .size_bytes = blob.size_bytes,
                            .sha256 = blob.sha256,
                            .request_id = ToHex(RandomBytes(16)),
                            .lane = lane,
                            .reached = Steps()})
      .Run()
      .status();
}

absl::StatusOr<absl::flat_hash_set<std::string>> FindMissing(
    HubChannel& hub, const absl::flat_hash_map<std::string, int64_t>& sizes) {
  absl::flat_hash_set<std::string> missing;
  v1::FindMissingRequest request;
  auto ask = [&]() -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(
        auto reply, hub.Call(&UploadService::Stub::FindMissing, request));
    missing.insert(reply.missing().begin(), reply.missing().end());
    request.Clear();
    return absl::OkStatus();
  };
  for (const auto& [sha256, size] : sizes) {
    request.add_sha256(sha256);
    if (request.sha256_size() == kFindMissingMax) {
      CAIRN_RETURN_IF_ERROR(ask());
    }
  }
  if (request.sha256_size() > 0) CAIRN_RETURN_IF_ERROR(ask());
  return missing;
}

}  // namespace

absl::Status UploadBlobs(HubChannel& hub, absl::Span<const OutgoingBlob> blobs,
                         const TransferProgress& progress) {
  absl::flat_hash_map<std::string, int64_t> sizes;
  for (const OutgoingBlob& blob : blobs) {
    sizes.emplace(blob.sha256.hex(), blob.size_bytes);
  }
  CAIRN_ASSIGN_OR_RETURN(auto missing, FindMissing(hub, sizes));
  Uploader uploader(hub, progress);
  std::vector<const OutgoingBlob*> small;
  std::vector<const OutgoingBlob*> single;
  std::vector<const OutgoingBlob*> large;
  for (const OutgoingBlob& blob : blobs) {
    if (missing.erase(blob.sha256.hex()) == 0) {
      uploader.Done(blob.size_bytes);
    } else if (blob.size_bytes <= kSmallBlobBytes) {
      small.push_back(&blob);
    } else if (blob.size_bytes < kSharedUploadBytesMin) {
      single.push_back(&blob);
    } else {
      large.push_back(&blob);
    }
  }
  CAIRN_RETURN_IF_ERROR(uploader.SendBatched(small));
  CAIRN_RETURN_IF_ERROR(uploader.SendSingly(single, kUploadLanes));
  return uploader.SendSingly(large, kLargeAtOnce);
}

absl::StatusOr<Digest> UploadUnhashed(HubChannel& hub, const ByteSource& source,
                                      const std::string& resume_key,
                                      const TransferProgress& progress) {
  Uploader uploader(hub, progress);
  return LargeUpload(hub, {.source = &source,
                           .offset = 0,
                           .size_bytes = source.size(),
                           .sha256 = std::nullopt,
                           .request_id = resume_key,
                           .reached = uploader.Steps()})
      .Run();
}

absl::StatusOr<bool> IsBlobKnown(HubChannel& hub, const Digest& sha256) {
  CAIRN_ASSIGN_OR_RETURN(auto missing, FindMissing(hub, {{sha256.hex(), 0}}));
  return missing.empty();
}

}  // namespace cairn
