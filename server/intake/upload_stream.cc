#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"
#include "server/intake/upload_sessions.h"

namespace cairn {
namespace {

int64_t SizeOf(absl::Span<const absl::string_view> pieces) {
  size_t size = 0;
  for (absl::string_view piece : pieces) size += piece.size();
  return static_cast<int64_t>(size);
}

}  // namespace

UploadStream::UploadStream(store::v1::UploadRecord record,
                           UploadFileTable::Use file, UploadOrder order,
                           absl::Duration idle_ttl)
    : record_(std::move(record)),
      order_(order),
      idle_ttl_(idle_ttl),
      file_(std::move(file)) {}

absl::Status UploadStream::Check(int64_t offset,
                                 absl::Span<const absl::string_view> pieces,
                                 uint32_t crc32c) {
  const int64_t size = SizeOf(pieces);
  if (size > kChunkBytes) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat("a chunk of ", size, " bytes: send at most ", kChunkBytes),
        {{"limit", absl::StrCat(kChunkBytes)}});
  }
  uint32_t actual = 0;
  for (absl::string_view piece : pieces) actual = Crc32c(piece, actual);
  if (actual != crc32c) {
    return absl::InvalidArgumentError(
        absl::StrCat("the chunk at ", offset, " has CRC32C ", actual, ", not ",
                     crc32c, " as it says: send it again"));
  }
  if (offset < 0 || offset > record_.size_bytes() ||
      size > record_.size_bytes() - offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the chunk [", offset, ", ", offset, " + ", size, ") passes the ",
        record_.size_bytes(), " bytes that ", record_.name(), " declared"));
  }
  if (order_ == UploadOrder::kShared) return absl::OkStatus();
  const int64_t stored = file_->size();
  if (offset <= stored) return absl::OkStatus();
  return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                         "the chunk at ", offset, " leaves a gap: go on at ",
                         stored, ", where ", record_.name(), " ends")),
                     {{"committed_bytes", absl::StrCat(stored)}});
}

void UploadStream::Write(int64_t offset, std::vector<absl::string_view> pieces,
                         uint32_t crc32c, UploadFile::Done done) {
  absl::Status status = Check(offset, pieces, crc32c);
  if (!status.ok() || SizeOf(pieces) == 0) {
    done(status);
    return;
  }
  file_->Write({.offset = offset,
                .pieces = std::move(pieces),
                .is_cancelled = &is_cancelled_,
                .done = std::move(done)});
}

void UploadStream::Cancel() {
  is_cancelled_ = true;
  file_->Forget(&is_cancelled_);
}

absl::StatusOr<v1::Upload> UploadStream::End() {
  CAIRN_ASSIGN_OR_RETURN(int64_t committed, file_->Sync());
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.synced"));
  v1::Upload upload;
  upload.set_name(record_.name());
  upload.set_size_bytes(record_.size_bytes());
  upload.set_committed_bytes(committed);
  upload.mutable_expire_time()->set_seconds(record_.active_time().seconds() +
                                            absl::ToInt64Seconds(idle_ttl_));
  return upload;
}

}  // namespace cairn
