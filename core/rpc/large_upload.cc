#include "core/rpc/large_upload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"
#include "core/rpc/upload_round.h"

namespace cairn {
namespace {

using v1::UploadService;

// How long a broken upload is tried without a single byte getting through.
constexpr absl::Duration kPatience = absl::Seconds(25);
// The hub may have to hash the whole before it answers.
constexpr CallOptions kFinishing = {.deadline = absl::Minutes(10)};

bool MayGoOn(const absl::Status& failure) {
  return IsTransient(failure) || absl::IsAborted(failure) ||
         absl::IsDeadlineExceeded(failure);
}

}  // namespace

LargeUpload::LargeUpload(HubChannel& hub, Options options)
    : hub_(hub),
      options_(std::move(options)),
      reader_(*options_.source,
              {.offset = options_.offset,
               .size_bytes = options_.size_bytes,
               .hashing = options_.sha256.has_value()
                              ? PartReader::Hashing::kDone
                              : PartReader::Hashing::kOnTheWay}),
      lanes_(options_.size_bytes >= kSharedUploadBytesMin ? kUploadLanes : 1),
      digest_(options_.sha256) {}

void LargeUpload::Reached(int64_t bytes) {
  if (options_.reached != nullptr) options_.reached(bytes);
}

absl::StatusOr<v1::Upload> LargeUpload::Begin() {
  v1::BeginUploadRequest request;
  request.set_size_bytes(options_.size_bytes);
  if (options_.sha256.has_value()) request.set_sha256(options_.sha256->hex());
  request.set_request_id(options_.request_id);
  return hub_.Call(&UploadService::Stub::BeginUpload, request);
}

absl::StatusOr<v1::Upload> LargeUpload::SendRound(const v1::Upload& upload) {
  int64_t reached = upload.committed_bytes();
  Reached(reached);
  reader_.Start(reached);
  UploadRound round(
      hub_, reader_,
      {.upload = upload.name(),
       .lanes = lanes_,
       .first_lane = lanes_ > 1 ? 0 : options_.lane,
       .sent = [&](int64_t bytes) {
         reached += bytes;
         Reached(reached);
       }});
  absl::StatusOr<int64_t> committed = round.Run();
  reader_.Stop();
  CAIRN_RETURN_IF_ERROR(reader_.status());
  CAIRN_RETURN_IF_ERROR(committed.status());
  v1::Upload after = upload;
  after.set_committed_bytes(*committed);
  return after;
}

absl::Status LargeUpload::Recover(const v1::Upload& upload,
                                  const absl::Status& failure) {
  // Somebody has to make room first; what was sent stays.
  if (auto reason = GetReason(failure);
      reason.has_value() && reason->code == "STORAGE_FULL") {
    return failure;
  }
  // Refused for want of places, or by a hub that knows no shared uploads.
  if (absl::IsResourceExhausted(failure) ||
      (absl::IsFailedPrecondition(failure) && lanes_ > 1)) {
    lanes_ = std::max(1, lanes_ / 2);
    return absl::OkStatus();
  }
  // What an earlier process sent was something else: the file has changed.
  if (absl::IsInvalidArgument(failure) && upload.committed_bytes() > 0 &&
      !has_begun_anew_) {
    has_begun_anew_ = true;
    v1::CancelUploadRequest cancel;
    cancel.set_name(upload.name());
    return hub_.Call(&UploadService::Stub::CancelUpload, cancel).status();
  }
  return MayGoOn(failure) ? absl::OkStatus() : failure;
}

absl::StatusOr<v1::Upload> LargeUpload::Send() {
  Backoff backoff;
  int64_t furthest = -1;
  absl::Time give_up = absl::Now() + kPatience;
  CAIRN_ASSIGN_OR_RETURN(v1::Upload upload, Begin());
  while (!upload.complete() && upload.committed_bytes() < options_.size_bytes) {
    if (upload.committed_bytes() > furthest) {
      furthest = upload.committed_bytes();
      give_up = absl::Now() + kPatience;
      backoff.Reset();
    }
    auto sent = SendRound(upload);
    if (sent.ok()) {
      upload = *std::move(sent);
      continue;
    }
    if (absl::IsNotFound(sent.status())) {
      CAIRN_ASSIGN_OR_RETURN(bool is_here, IsHere());
      if (is_here) {
        upload.set_complete(true);
        return upload;
      }
    } else {
      CAIRN_RETURN_IF_ERROR(Recover(upload, sent.status()));
    }
    const absl::Duration delay = backoff.Next(sent.status());
    if (absl::Now() + delay > give_up) return sent.status();
    CAIRN_RETURN_IF_ERROR(hub_.Sleep(delay));
    CAIRN_ASSIGN_OR_RETURN(upload, Begin());
  }
  return upload;
}

absl::StatusOr<Digest> LargeUpload::Hash() {
  if (!digest_.has_value()) {
    CAIRN_ASSIGN_OR_RETURN(digest_, reader_.FinishHash());
  }
  return *digest_;
}

absl::StatusOr<bool> LargeUpload::IsHere() {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Hash());
  v1::FindMissingRequest find;
  find.add_sha256(digest.hex());
  CAIRN_ASSIGN_OR_RETURN(auto found,
                         hub_.Call(&UploadService::Stub::FindMissing, find));
  return found.missing().empty();
}

absl::StatusOr<Digest> LargeUpload::Run() {
  CAIRN_ASSIGN_OR_RETURN(v1::Upload upload, Send());
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Hash());
  Reached(options_.size_bytes);
  if (upload.complete()) return digest;
  v1::FinishUploadRequest finish;
  finish.set_name(upload.name());
  finish.set_sha256(digest.hex());
  CAIRN_RETURN_IF_ERROR(
      hub_.Call(&UploadService::Stub::FinishUpload, finish, kFinishing)
          .status());
  return digest;
}

}  // namespace cairn
