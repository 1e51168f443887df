#include "core/rpc/blob_download.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/file_download.h"
#include "core/rpc/part_file.h"
#include "core/rpc/range_download.h"

namespace cairn {
namespace {

// One attempt at a file; `*resumed` tells whether old bytes were built on.
absl::Status FetchFile(HubChannel& hub, const v1::ReadRequest& request,
                       absl::string_view sha256, int64_t size_bytes,
                       const std::string& path,
                       const TransferProgress& progress, bool* resumed) {
  CAIRN_ASSIGN_OR_RETURN(PartFile file, PartFile::Open(path, size_bytes));
  *resumed = file.found() > 0;
  CAIRN_ASSIGN_OR_RETURN(Digest digest, FileDownload(hub, file,
                                                     {.request = request,
                                                      .size_bytes = size_bytes,
                                                      .progress = progress})
                                            .Run());
  if (digest.hex() == sha256) return std::move(file).Publish();
  file.Discard();
  if (progress) progress(-size_bytes);
  return absl::DataLossError(absl::StrCat(
      path, ": the hub sent bytes with SHA-256 ", digest.hex(), " instead of ",
      sha256, "; tell the hub's maintainer to run `cairn admin check`"));
}

class RemoteSource : public ByteSource {
 public:
  RemoteSource(HubChannel& hub, v1::ReadRequest request, int64_t size_bytes)
      : hub_(hub), request_(std::move(request)), size_(size_bytes) {}

  int64_t size() const override { return size_; }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    const auto wanted = static_cast<int64_t>(out.size());
    if (offset < 0 || offset > size_ || wanted > size_ - offset) {
      return absl::OutOfRangeError(absl::StrCat(
          "bytes ", offset, "+", wanted, " of a file of ", size_, " bytes"));
    }
    if (out.empty()) return absl::OkStatus();
    v1::ReadRequest request = request_;
    request.set_offset(offset);
    request.set_limit(wanted);
    size_t at = 0;
    CAIRN_RETURN_IF_ERROR(
        Download(hub_, request, [&](absl::string_view bytes) -> absl::Status {
          if (bytes.size() > out.size() - at) {
            return absl::DataLossError("the hub sent more than asked for");
          }
          std::memcpy(out.data() + at, bytes.data(), bytes.size());
          at += bytes.size();
          return absl::OkStatus();
        }));
    if (at != out.size()) {
      return absl::DataLossError("the hub sent less than asked for");
    }
    return absl::OkStatus();
  }

 private:
  HubChannel& hub_;
  const v1::ReadRequest request_;
  const int64_t size_;
};

}  // namespace

absl::Status Download(HubChannel& hub, const v1::ReadRequest& request,
                      ByteSink sink) {
  auto take = [&](ChunkBytes& chunk) -> absl::Status {
    for (absl::string_view piece : chunk.pieces()) {
      CAIRN_RETURN_IF_ERROR(sink(piece));
    }
    return absl::OkStatus();
  };
  return RangeDownload(hub, request, take).Run();
}

absl::StatusOr<std::string> DownloadBytes(HubChannel& hub,
                                          const v1::ReadRequest& request,
                                          absl::string_view sha256,
                                          int64_t bytes_max) {
  std::string out;
  CAIRN_RETURN_IF_ERROR(
      Download(hub, request, [&](absl::string_view bytes) -> absl::Status {
        if (static_cast<int64_t>(out.size() + bytes.size()) > bytes_max) {
          return ReasonedError(
              absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
              absl::StrCat("more than ", bytes_max, " bytes came"),
              {{"limit", absl::StrCat(bytes_max)}});
        }
        out.append(bytes.data(), bytes.size());
        return absl::OkStatus();
      }));
  if (!sha256.empty() && Digest::Of(out).hex() != sha256) {
    return absl::DataLossError(absl::StrCat("the hub sent bytes with SHA-256 ",
                                            Digest::Of(out).hex(),
                                            " instead of ", sha256));
  }
  return out;
}

absl::Status DownloadFile(HubChannel& hub, const v1::ReadRequest& request,
                          absl::string_view sha256, int64_t size_bytes,
                          const std::string& path,
                          const TransferProgress& progress) {
  bool resumed = false;
  absl::Status status =
      FetchFile(hub, request, sha256, size_bytes, path, progress, &resumed);
  // Bytes left by an earlier call may be of another file: once more, afresh.
  if (absl::IsDataLoss(status) && resumed) {
    status =
        FetchFile(hub, request, sha256, size_bytes, path, progress, &resumed);
  }
  return status;
}

std::unique_ptr<ByteSource> MakeRemoteSource(HubChannel& hub,
                                             const v1::ReadRequest& request,
                                             int64_t size_bytes) {
  return std::make_unique<RemoteSource>(hub, request, size_bytes);
}

}  // namespace cairn
