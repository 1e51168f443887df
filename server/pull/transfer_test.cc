// Uploads and downloads through both handlers, over gRPC on loopback.
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/sync_stream.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "cairn/store/v1/records.pb.h"
#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/limits.h"
#include "server/intake/upload_handler.h"
#include "server/pull/download_handler.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

std::string Pattern(size_t size) {
  std::string out(size, '\0');
  uint32_t state = 7;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    token_ = MakeUser("users/w", v1::User::WORKER);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&uploads_);
    builder.RegisterService(&downloads_);
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_),
                                   grpc::InsecureChannelCredentials());
    upload_stub_ = v1::UploadService::NewStub(channel_);
    download_stub_ = v1::DownloadService::NewStub(channel_);
  }
  ~TransferTest() override { server_->Shutdown(); }

  std::string MakeUser(const std::string& name, v1::User::Role role) {
    store::v1::UserRecord record;
    record.mutable_user()->set_name(name);
    record.mutable_user()->set_role(role);
    absl::Status status = store_.Transact(
        [&](HubTransaction& transaction) { return transaction.Put(record); });
    EXPECT_TRUE(status.ok()) << status;
    auto token = tokens_.Create(name, absl::Hours(1));
    EXPECT_TRUE(token.ok()) << token.status();
    return token.ok() ? token->token() : "";
  }

  std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->AddMetadata("authorization", "Bearer " + token_);
    return context;
  }

  v1::Upload Begin(const std::string& bytes) {
    v1::BeginUploadRequest request;
    request.set_size_bytes(static_cast<int64_t>(bytes.size()));
    request.set_sha256(Digest::Of(bytes).hex());
    v1::Upload upload;
    auto status = upload_stub_->BeginUpload(Context().get(), request, &upload);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return upload;
  }

  // Streams bytes[begin, end) and returns the answer.
  absl::StatusOr<v1::Upload> Stream(const std::string& name,
                                    const std::string& bytes, size_t begin,
                                    size_t end) {
    auto context = Context();
    v1::Upload upload;
    auto writer = upload_stub_->WriteUpload(context.get(), &upload);
    v1::WriteUploadRequest request;
    request.set_name(name);
    while (begin < end) {
      const size_t size = std::min<size_t>(kChunkBytes, end - begin);
      request.set_offset(static_cast<int64_t>(begin));
      request.set_chunk(bytes.substr(begin, size));
      request.set_crc32c(Crc32c(request.chunk()));
      if (!writer->Write(request)) break;
      request.clear_name();
      begin += size;
    }
    writer->WritesDone();
    absl::Status status = FromGrpcStatus(writer->Finish());
    if (!status.ok()) return status;
    return upload;
  }

  absl::Status Finish(const std::string& name, const std::string& bytes) {
    v1::FinishUploadRequest request;
    request.set_name(name);
    request.set_sha256(Digest::Of(bytes).hex());
    v1::Blob blob;
    return FromGrpcStatus(
        upload_stub_->FinishUpload(Context().get(), request, &blob));
  }

  absl::StatusOr<std::string> Download(const Digest& digest, int64_t offset,
                                       int64_t limit) {
    v1::ReadRequest request;
    request.mutable_leased_blob()->set_job("jobs/1");
    request.mutable_leased_blob()->set_sha256(digest.hex());
    request.set_offset(offset);
    request.set_limit(limit);
    auto context = Context();
    auto reader = download_stub_->Read(context.get(), request);
    v1::ReadResponse response;
    std::string out;
    bool is_first = true;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.offset(), offset + static_cast<int64_t>(out.size()));
      EXPECT_EQ(response.crc32c(), Crc32c(response.chunk()));
      EXPECT_LE(static_cast<int64_t>(response.chunk().size()), kChunkBytes);
      EXPECT_EQ(response.sha256(), is_first ? digest.hex() : "");
      out += response.chunk();
      is_first = false;
    }
    absl::Status status = FromGrpcStatus(reader->Finish());
    if (!status.ok()) return status;
    EXPECT_FALSE(is_first) << "not even the size was said";
    return out;
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  MemoryBlobStore blobs_;
  TokenAuthority tokens_{store_};
  ThreadPool pool_{{.threads = 2, .queue_max = 64}};
  StreamGate gate_{{.streams_max = 2}, clock_};
  UploadSessions sessions_{store_, blobs_};
  DownloadResolver resolver_{
      store_, blobs_,
      [](const Caller&, const v1::LeasedBlob&) { return absl::OkStatus(); }};
  CallEnvironment calls_{.tokens = tokens_, .pool = pool_};
  UploadHandler uploads_{sessions_, calls_, gate_};
  DownloadHandler downloads_{resolver_, calls_, gate_};
  std::string token_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::UploadService::Stub> upload_stub_;
  std::unique_ptr<v1::DownloadService::Stub> download_stub_;
};

TEST_F(TransferTest, BytesGoInAndOut) {
  const std::string bytes = Pattern(1'000'003);
  v1::Upload upload = Begin(bytes);
  auto streamed = Stream(upload.name(), bytes, 0, bytes.size());
  ASSERT_TRUE(streamed.ok()) << streamed.status();
  EXPECT_EQ(streamed->committed_bytes(), 1'000'003);
  ASSERT_TRUE(Finish(upload.name(), bytes).ok());
  EXPECT_EQ(*Download(Digest::Of(bytes), 0, 0), bytes);
  EXPECT_EQ(uploads_.received_bytes(), 1'000'003);
  EXPECT_EQ(downloads_.sent_bytes(), 1'000'003);
  EXPECT_TRUE(Begin(bytes).complete());
}

TEST_F(TransferTest, RangesAreReadAsAskedFor) {
  const std::string bytes = Pattern(600'000);
  const Digest digest = *blobs_.Put(bytes);
  EXPECT_EQ(*Download(digest, 599'990, 0), bytes.substr(599'990));
  EXPECT_EQ(*Download(digest, 1000, 300'000), bytes.substr(1000, 300'000));
  EXPECT_EQ(*Download(digest, 10, INT64_MAX), bytes.substr(10));
  EXPECT_EQ(*Download(digest, 600'000, 0), "");
  EXPECT_TRUE(absl::IsOutOfRange(Download(digest, 600'001, 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Download(digest, -1, 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Download(digest, 0, -1).status()));
}

TEST_F(TransferTest, EmptyBlobIsOneEmptyChunk) {
  EXPECT_EQ(*Download(*blobs_.Put(""), 0, 0), "");
}

TEST_F(TransferTest, CancelledStreamLeavesWhatItSent) {
  const std::string bytes = Pattern(2'000'000);
  v1::Upload upload = Begin(bytes);
  {
    auto context = Context();
    v1::Upload ignored;
    auto writer = upload_stub_->WriteUpload(context.get(), &ignored);
    v1::WriteUploadRequest request;
    request.set_name(upload.name());
    request.set_chunk(bytes.substr(0, kChunkBytes));
    request.set_crc32c(Crc32c(request.chunk()));
    ASSERT_TRUE(writer->Write(request));
    while (uploads_.received_bytes() == 0) std::this_thread::yield();
    context->TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  while (gate_.open_streams() > 0) std::this_thread::yield();
  v1::Upload again = Begin(bytes);
  EXPECT_EQ(again.name(), upload.name());
  EXPECT_EQ(again.committed_bytes(), kChunkBytes);
  auto rest = Stream(again.name(), bytes, kChunkBytes, bytes.size());
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_TRUE(Finish(again.name(), bytes).ok());
}

TEST_F(TransferTest, StreamErrorsCarryTheirCode) {
  const std::string bytes = Pattern(100);
  v1::Upload upload = Begin(bytes);
  EXPECT_TRUE(absl::IsInvalidArgument(
      Stream(upload.name(), bytes + "more", 0, 104).status()));
  EXPECT_TRUE(absl::IsNotFound(Stream("uploads/none", bytes, 0, 100).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(Stream("models/m", bytes, 0, 100).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(Stream(upload.name(), bytes, 0, 0).status()));
  token_ = "wrong";
  EXPECT_TRUE(
      absl::IsUnauthenticated(Stream(upload.name(), bytes, 0, 100).status()));
  EXPECT_TRUE(
      absl::IsUnauthenticated(Download(Digest::Of("x"), 0, 0).status()));
}

TEST_F(TransferTest, MessagesThatAreNoneAreRefused) {
  const std::string garbage(1000, '\x07');
  const grpc::Slice slice(garbage);
  const grpc::ByteBuffer wire(&slice, 1);
  using grpc::internal::RpcMethod;
  {
    const RpcMethod method("/cairn.v1.DownloadService/Read",
                           RpcMethod::SERVER_STREAMING);
    auto context = Context();
    auto reader = absl::WrapUnique(
        grpc::internal::ClientReaderFactory<v1::ReadResponse>::Create(
            channel_.get(), method, context.get(), wire));
    v1::ReadResponse response;
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_EQ(reader->Finish().error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  const RpcMethod method("/cairn.v1.UploadService/WriteUpload",
                         RpcMethod::CLIENT_STREAMING);
  auto context = Context();
  v1::Upload reply;
  auto writer = absl::WrapUnique(
      grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(
          channel_.get(), method, context.get(), &reply));
  writer->Write(wire);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(TransferTest, StreamsBeyondTheLimitAreToldToComeBack) {
  auto first = gate_.Admit(nullptr, "someone");
  auto second = gate_.Admit(nullptr, "someone");
  const Digest digest = *blobs_.Put("x");
  absl::Status refused = Download(digest, 0, 0).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(GetRetryDelay(refused).has_value());
  first->reset();
  EXPECT_TRUE(Download(digest, 0, 0).ok());
}

TEST_F(TransferTest, SmallBlobsTravelTogether) {
  v1::BatchUploadRequest batch;
  for (const char* bytes : {"one", "two"}) {
    auto* item = batch.add_items();
    item->set_data(bytes);
    item->set_sha256(Digest::Of(bytes).hex());
  }
  v1::BatchUploadResponse stored;
  ASSERT_TRUE(upload_stub_->BatchUpload(Context().get(), batch, &stored).ok());
  EXPECT_EQ(stored.blobs_size(), 2);
  v1::FindMissingRequest find;
  find.add_sha256(Digest::Of("two").hex());
  find.add_sha256(Digest::Of("three").hex());
  v1::FindMissingResponse missing;
  ASSERT_TRUE(upload_stub_->FindMissing(Context().get(), find, &missing).ok());
  ASSERT_EQ(missing.missing_size(), 1);
  EXPECT_EQ(missing.missing(0), Digest::Of("three").hex());
}

}  // namespace
}  // namespace cairn
