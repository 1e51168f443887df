#include "core/rpc/upload_round.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "absl/memory/memory.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/status_macros.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/limits.h"

namespace cairn {
namespace {

constexpr absl::Duration kStreamDeadline = absl::Minutes(20);
// Streams are renewed in time, so that a slow line keeps the deadline.
constexpr absl::Duration kStreamTime = absl::Minutes(10);
// A further connection that takes longer is done without.
constexpr absl::Duration kConnectTime = absl::Seconds(5);

constexpr char kWriteMethod[] = "/cairn.v1.UploadService/WriteUpload";

// As the generated stub does it, but with messages made by hand.
std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> OpenStream(
    grpc::Channel& channel, grpc::ClientContext& context, v1::Upload& reply) {
  static const grpc::internal::RpcMethod kWrite(
      kWriteMethod, grpc::internal::RpcMethod::CLIENT_STREAMING);
  return absl::WrapUnique(
      grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(
          &channel, kWrite, &context, &reply));
}

}  // namespace

// Has a stream ended with the round while it lives.
class UploadRound::Member {
 public:
  Member(UploadRound& round, grpc::ClientContext& context)
      : round_(round), context_(context) {
    MutexLock lock(round_.mutex_);
    round_.open_.push_back(&context_);
    if (!round_.failure_.ok()) context_.TryCancel();
  }
  ~Member() {
    MutexLock lock(round_.mutex_);
    std::erase(round_.open_, &context_);
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

 private:
  UploadRound& round_;
  grpc::ClientContext& context_;
};

void UploadRound::Fail(const absl::Status& status) {
  reader_.RequestStop();
  MutexLock lock(mutex_);
  failure_.Update(status);
  for (grpc::ClientContext* context : open_) context->TryCancel();
}

bool UploadRound::has_failed() const {
  MutexLock lock(mutex_);
  return !failure_.ok();
}

template <typename Writer>
bool UploadRound::SendPart(Writer& writer, const Part& part) {
  v1::WriteUploadRequest request;
  request.set_name(options_.upload);
  int64_t offset = part.offset;
  for (const Part::Chunk& chunk : part.chunks) {
    request.set_offset(offset);
    request.set_crc32c(chunk.crc32c);
    if (!writer.Write(SerializeWithChunk(
            request, v1::WriteUploadRequest::kChunkFieldNumber,
            chunk.bytes))) {
      return false;
    }
    const auto size = static_cast<int64_t>(chunk.bytes.size());
    offset += size;
    if (options_.sent == nullptr) continue;
    MutexLock lock(mutex_);
    options_.sent(size);
  }
  return true;
}

template <typename Writer>
UploadRound::Ended UploadRound::SendParts(Writer& writer) {
  const absl::Time renewal = absl::Now() + kStreamTime;
  while (absl::Now() < renewal) {
    std::unique_ptr<Part> part = reader_.Next();
    if (part == nullptr) return Ended::kNoMoreParts;
    const bool is_sent = SendPart(writer, *part);
    reader_.GiveBack(std::move(part));
    if (!is_sent) return Ended::kNoMoreParts;  // Finish() says why
  }
  return Ended::kTimeIsUp;
}

absl::StatusOr<UploadRound::Ended> UploadRound::Stream(int index) {
  const std::shared_ptr<grpc::Channel> channel =
      hub_.Lane(options_.first_lane + index);
  v1::Upload reply;
  Ended ended = Ended::kNoMoreParts;
  bool is_refused = false;
  absl::Status sent = hub_.RunOnce(
      kStreamDeadline, [&](grpc::ClientContext& context) -> grpc::Status {
        Member member(*this, context);
        auto writer = OpenStream(*channel, context, reply);
        if (options_.lanes > 1) {
          v1::WriteUploadRequest opening;
          opening.set_name(options_.upload);
          opening.set_shares(true);
          writer->Write(SerializeMessage(opening));
        }
        if (index > 0) {
          // The round goes on without a stream that finds no place.
          writer->WaitForInitialMetadata();
          is_refused =
              !context.GetServerInitialMetadata().contains(kStreamOpenKey);
        }
        if (!is_refused) ended = SendParts(*writer);
        writer->WritesDone();
        return writer->Finish();
      });
  if (is_refused) return Ended::kNoMoreParts;
  CAIRN_RETURN_IF_ERROR(sent);
  MutexLock lock(mutex_);
  committed_ = std::max(committed_, reply.committed_bytes());
  return ended;
}

void UploadRound::Lane(int index) {
  if (index > 0 &&
      !hub_.Lane(options_.first_lane + index)
           ->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectTime))) {
    return;
  }
  while (!has_failed()) {
    absl::StatusOr<Ended> ended = Stream(index);
    if (!ended.ok()) return Fail(ended.status());
    if (*ended == Ended::kNoMoreParts) return;
  }
}

absl::StatusOr<int64_t> UploadRound::Run() {
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < options_.lanes; ++i) {
      others.emplace_back([this, i] { Lane(i); });
    }
    Lane(0);
  }
  MutexLock lock(mutex_);
  CAIRN_RETURN_IF_ERROR(failure_);
  return committed_;
}

}  // namespace cairn
