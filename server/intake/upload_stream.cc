#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"
#include "server/intake/upload_sessions.h"

namespace cairn {

UploadStream::UploadStream(store::v1::UploadRecord record,
                           WriterTable::Loan loan, int64_t sync_bytes,
                           absl::Duration idle_ttl)
    : record_(std::move(record)),
      sync_bytes_(sync_bytes),
      idle_ttl_(idle_ttl),
      loan_(std::move(loan)) {}

absl::Status UploadStream::Write(int64_t offset, absl::string_view chunk,
                                 uint32_t crc32c) {
  const auto size = static_cast<int64_t>(chunk.size());
  if (size > kChunkBytes) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat("a chunk of ", size, " bytes: send at most ", kChunkBytes),
        {{"limit", absl::StrCat(kChunkBytes)}});
  }
  if (const uint32_t actual = Crc32c(chunk); actual != crc32c) {
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
  const int64_t stored = loan_.writer().size();
  if (offset > stored) {
    return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                           "the chunk at ", offset, " leaves a gap: go on at ",
                           stored, ", where ", record_.name(), " ends")),
                       {{"committed_bytes", absl::StrCat(stored)}});
  }
  const auto known =
      static_cast<size_t>(std::min<int64_t>(size, stored - offset));
  CAIRN_RETURN_IF_ERROR(CompareStored(offset, chunk.substr(0, known)));
  chunk.remove_prefix(known);
  if (chunk.empty()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(loan_.writer().Append(chunk));
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.written"));
  unsynced_ += static_cast<int64_t>(chunk.size());
  if (unsynced_ < sync_bytes_) return absl::OkStatus();
  unsynced_ = 0;
  return loan_.Sync().status();
}

absl::Status UploadStream::CompareStored(int64_t offset,
                                         absl::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  std::string stored(bytes.size(), '\0');
  CAIRN_RETURN_IF_ERROR(
      loan_.writer().ReadBack(offset, absl::MakeSpan(stored)));
  if (bytes == stored) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the chunk at ", offset, " differs from what ", record_.name(),
      " holds there: cancel the upload and begin another one"));
}

absl::StatusOr<v1::Upload> UploadStream::End() {
  CAIRN_ASSIGN_OR_RETURN(int64_t committed, loan_.Sync());
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
