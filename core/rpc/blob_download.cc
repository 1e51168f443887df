#include "core/rpc/blob_download.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kStreamBytes = 64 << 20;
constexpr absl::Duration kStreamDeadline = absl::Minutes(20);
constexpr absl::Duration kPatience = absl::Seconds(25);

// One download in its streams: where it stands and what it knows.
class Transfer {
 public:
  Transfer(HubChannel& hub, const v1::ReadRequest& request, ByteSink sink)
      : hub_(hub),
        request_(request),
        sink_(sink),
        next_(request.offset()),
        end_(request.limit() > 0 ? request.offset() + request.limit() : -1) {}

  absl::Status Run();

 private:
  // Reads one stream of at most kStreamBytes.
  absl::Status ReadStream();
  absl::Status Take(const v1::ReadResponse& response);
  bool is_done() const { return end_ >= 0 && next_ >= end_; }

  HubChannel& hub_;
  v1::ReadRequest request_;
  ByteSink sink_;
  int64_t next_;
  // Past the last byte; -1 until the hub told the size.
  int64_t end_;
};

absl::Status Transfer::Take(const v1::ReadResponse& response) {
  if (end_ < 0 || (response.size_bytes() > 0 && response.size_bytes() < end_)) {
    end_ = response.size_bytes();
  }
  if (response.chunk().empty()) return absl::OkStatus();
  if (response.offset() != next_) {
    return absl::DataLossError(absl::StrCat("the hub sent bytes at offset ",
                                            response.offset(), " instead of ",
                                            next_));
  }
  if (Crc32c(response.chunk()) != response.crc32c()) {
    return absl::DataLossError(
        absl::StrCat("the chunk at offset ", next_,
                     " came with another CRC32C than its bytes have"));
  }
  next_ += static_cast<int64_t>(response.chunk().size());
  return sink_(response.chunk());
}

absl::Status Transfer::ReadStream() {
  v1::DownloadService::Stub stub(hub_.channel());
  request_.set_offset(next_);
  request_.set_limit(end_ < 0 ? kStreamBytes
                              : std::min(kStreamBytes, end_ - next_));
  absl::Status taken;
  absl::Status read = hub_.RunOnce(
      kStreamDeadline, [&](grpc::ClientContext& context) -> grpc::Status {
        auto reader = stub.Read(&context, request_);
        v1::ReadResponse response;
        while (taken.ok() && reader->Read(&response)) taken = Take(response);
        if (!taken.ok()) context.TryCancel();
        return reader->Finish();
      });
  CAIRN_RETURN_IF_ERROR(taken);
  return read;
}

absl::Status Transfer::Run() {
  Backoff backoff;
  absl::Time give_up = absl::Now() + kPatience;
  while (!is_done()) {
    const int64_t before = next_;
    absl::Status status = ReadStream();
    if (next_ > before) {
      backoff.Reset();
      give_up = absl::Now() + kPatience;
    }
    if (status.ok()) {
      if (next_ == before && !is_done()) {
        if (end_ < 0) return absl::OkStatus();  // nothing there: empty
        return absl::DataLossError(absl::StrCat("the hub ended at byte ", next_,
                                                " of ", end_,
                                                " without an error"));
      }
      continue;
    }
    if (!IsTransient(status) &&
        !(absl::IsDeadlineExceeded(status) && next_ > before)) {
      return status;
    }
    const absl::Duration delay = backoff.Next(status);
    if (absl::Now() + delay > give_up) return status;
    CAIRN_RETURN_IF_ERROR(hub_.Sleep(delay));
  }
  return absl::OkStatus();
}

// Adds what `part` holds already to `hasher`; the number of bytes, 0 when
// there is nothing to continue.
absl::StatusOr<int64_t> HashExisting(const std::string& part, int64_t size_max,
                                     Hasher& hasher) {
  auto source = OpenFileSource(part);
  if (absl::IsNotFound(source.status())) return 0;
  CAIRN_RETURN_IF_ERROR(source.status());
  const int64_t size = (*source)->size();
  if (size > size_max) return 0;
  std::string buffer(1 << 20, '\0');
  for (int64_t at = 0; at < size;) {
    auto tile = absl::MakeSpan(buffer).subspan(
        0, static_cast<size_t>(std::min<int64_t>(
               static_cast<int64_t>(buffer.size()), size - at)));
    CAIRN_RETURN_IF_ERROR((*source)->ReadAt(at, tile));
    hasher.Update(absl::string_view(tile.data(), tile.size()));
    at += static_cast<int64_t>(tile.size());
  }
  return size;
}

// One attempt at a file; `*resumed` tells whether old bytes were built on.
absl::Status FetchFile(HubChannel& hub, v1::ReadRequest request,
                       absl::string_view sha256, int64_t size_bytes,
                       const std::string& path,
                       const TransferProgress& progress, bool* resumed) {
  const std::string part = absl::StrCat(path, ".part");
  Hasher hasher;
  CAIRN_ASSIGN_OR_RETURN(int64_t have, HashExisting(part, size_bytes, hasher));
  *resumed = have > 0;
  CAIRN_ASSIGN_OR_RETURN(FileAppender file, FileAppender::Open(part, have));
  if (progress && have > 0) progress(have);
  if (have < size_bytes) {
    request.set_offset(have);
    request.set_limit(size_bytes - have);
    CAIRN_RETURN_IF_ERROR(
        Download(hub, request, [&](absl::string_view bytes) -> absl::Status {
          hasher.Update(bytes);
          if (progress) progress(static_cast<int64_t>(bytes.size()));
          return file.Append(bytes);
        }));
  }
  const std::string got = hasher.FinishHex();
  if (got != sha256) {
    unlink(part.c_str());
    if (progress) progress(-size_bytes);
    return absl::DataLossError(absl::StrCat(
        path, ": the hub sent bytes with SHA-256 ", got, " instead of ", sha256,
        "; tell the hub's maintainer to run `cairn admin check`"));
  }
  return std::move(file).Publish(path);
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
  return Transfer(hub, request, sink).Run();
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
