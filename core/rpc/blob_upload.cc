#include "core/rpc/blob_upload.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"

namespace cairn {
namespace {

using v1::UploadService;

// Blobs up to this size travel in batches.
constexpr int64_t kSmallBlobBytes = 1 << 20;
constexpr size_t kBatchItemsMax = 1000;
// One stream carries so much at most, so that each has a deadline that a slow
// line can keep.
constexpr int64_t kStreamBytes = 64 << 20;
constexpr absl::Duration kStreamDeadline = absl::Minutes(20);
// How long a broken upload is tried without a single byte getting through.
constexpr absl::Duration kPatience = absl::Seconds(25);
// The hub hashes the whole before it answers.
constexpr CallOptions kFinishing = {.deadline = absl::Minutes(10)};

class Uploader {
 public:
  Uploader(HubChannel& hub, const TransferProgress& progress)
      : hub_(hub), progress_(progress) {}

  absl::Status SendBatched(absl::Span<const OutgoingBlob* const> blobs);
  absl::Status SendLarge(const OutgoingBlob& blob);
  void Done(int64_t bytes) {
    if (progress_ && bytes != 0) progress_(bytes);
  }

 private:
  absl::Status SendBatch(const v1::BatchUploadRequest& batch);
  absl::StatusOr<v1::Upload> Begin(const OutgoingBlob& blob);
  absl::StatusOr<v1::Upload> SendStream(const OutgoingBlob& blob,
                                        const std::string& name,
                                        int64_t offset);
  // Reports a large blob's progress as an absolute figure.
  void Reached(int64_t bytes) {
    Done(bytes - reported_);
    reported_ = bytes;
  }

  HubChannel& hub_;
  const TransferProgress& progress_;
  int64_t reported_ = 0;
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

absl::StatusOr<v1::Upload> Uploader::Begin(const OutgoingBlob& blob) {
  v1::BeginUploadRequest request;
  request.set_size_bytes(blob.size_bytes);
  request.set_sha256(blob.sha256.hex());
  request.set_request_id(ToHex(RandomBytes(16)));
  return hub_.Call(&UploadService::Stub::BeginUpload, request);
}

absl::StatusOr<v1::Upload> Uploader::SendStream(const OutgoingBlob& blob,
                                                const std::string& name,
                                                int64_t offset) {
  const int64_t end = std::min(blob.size_bytes, offset + kStreamBytes);
  UploadService::Stub stub(hub_.channel());
  v1::Upload reply;
  absl::Status read;
  absl::Status sent = hub_.RunOnce(
      kStreamDeadline, [&](grpc::ClientContext& c) -> grpc::Status {
        auto writer = stub.WriteUpload(&c, &reply);
        v1::WriteUploadRequest request;
        request.set_name(name);
        for (int64_t at = offset; at < end;) {
          const int64_t size = std::min(kChunkBytes, end - at);
          std::string& chunk = *request.mutable_chunk();
          chunk.resize(static_cast<size_t>(size));
          read = blob.source->ReadAt(blob.offset + at, absl::MakeSpan(chunk));
          if (!read.ok()) {
            c.TryCancel();
            break;
          }
          request.set_offset(at);
          request.set_crc32c(Crc32c(chunk));
          if (!writer->Write(request)) break;
          at += size;
          Reached(at);
        }
        writer->WritesDone();
        return writer->Finish();
      });
  CAIRN_RETURN_IF_ERROR(read);
  CAIRN_RETURN_IF_ERROR(sent);
  return reply;
}

absl::Status Uploader::SendLarge(const OutgoingBlob& blob) {
  Backoff backoff;
  reported_ = 0;
  int64_t furthest = -1;
  absl::Time give_up = absl::Now() + kPatience;
  CAIRN_ASSIGN_OR_RETURN(v1::Upload upload, Begin(blob));
  while (!upload.complete() && upload.committed_bytes() < blob.size_bytes) {
    if (upload.committed_bytes() > furthest) {
      furthest = upload.committed_bytes();
      give_up = absl::Now() + kPatience;
      backoff.Reset();
    }
    Reached(upload.committed_bytes());
    auto reply = SendStream(blob, upload.name(), upload.committed_bytes());
    if (reply.ok()) {
      upload = *std::move(reply);
      continue;
    }
    // ABORTED: the hub has not noticed yet that the last stream broke.
    const absl::Status& failure = reply.status();
    if (!IsTransient(failure) && !absl::IsAborted(failure) &&
        !absl::IsDeadlineExceeded(failure)) {
      return failure;
    }
    const absl::Duration delay = backoff.Next(failure);
    if (absl::Now() + delay > give_up) return failure;
    CAIRN_RETURN_IF_ERROR(hub_.Sleep(delay));
    CAIRN_ASSIGN_OR_RETURN(upload, Begin(blob));
  }
  Reached(blob.size_bytes);
  if (upload.complete()) return absl::OkStatus();
  v1::FinishUploadRequest finish;
  finish.set_name(upload.name());
  finish.set_sha256(blob.sha256.hex());
  return hub_.Call(&UploadService::Stub::FinishUpload, finish, kFinishing)
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
  std::vector<const OutgoingBlob*> large;
  for (const OutgoingBlob& blob : blobs) {
    if (missing.erase(blob.sha256.hex()) == 0) {
      uploader.Done(blob.size_bytes);
    } else if (blob.size_bytes <= kSmallBlobBytes) {
      small.push_back(&blob);
    } else {
      large.push_back(&blob);
    }
  }
  CAIRN_RETURN_IF_ERROR(uploader.SendBatched(small));
  for (const OutgoingBlob* blob : large) {
    CAIRN_RETURN_IF_ERROR(uploader.SendLarge(*blob));
  }
  return absl::OkStatus();
}

}  // namespace cairn
