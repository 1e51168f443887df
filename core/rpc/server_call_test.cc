// The pieces that answer calls, driven through a real server on loopback with
// a service of the contract.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/status_util.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/limits.h"
#include "core/rpc/server_stream.h"
#include "core/rpc/server_transport.h"
#include "core/rpc/server_unary.h"

namespace cairn {
namespace {

// Adds up what is sent, and answers with the sum.
class SummingSink : public StreamSink<v1::WriteUploadRequest, v1::Upload> {
 public:
  explicit SummingSink(std::atomic<int>& ended) : ended_(ended) {}
  void Take(v1::WriteUploadRequest& request, Done done) override {
    if (request.offset() < 0) {
      return done(ReasonedError(absl::StatusCode::kInvalidArgument,
                                "LIMIT_EXCEEDED", "negative"));
    }
    sum_ += request.offset();
    done(absl::OkStatus());
  }
  absl::StatusOr<v1::Upload> End() override {
    ++ended_;
    v1::Upload upload;
    upload.set_committed_bytes(sum_);
    return upload;
  }

 private:
  std::atomic<int>& ended_;
  int64_t sum_ = 0;
};

class TestUploads : public v1::UploadService::CallbackService {
 public:
  TestUploads(ThreadPool& pool, StreamGate& gate) : pool_(pool), gate_(gate) {}

  grpc::ServerUnaryReactor* GetUpload(grpc::CallbackServerContext* context,
                                      const v1::GetUploadRequest* request,
                                      v1::Upload* response) override {
    return HandleUnary(
        context, pool_, request, response,
        [this, context](
            const v1::GetUploadRequest& get) -> absl::StatusOr<v1::Upload> {
          if (hold) hold();
          if (get.name().empty()) return absl::NotFoundError("no name");
          v1::Upload upload;
          upload.set_name(absl::StrCat(get.name(), AuthorizationOf(*context)));
          return upload;
        });
  }
  // Answers once `ready` is set.
  grpc::ServerUnaryReactor* FinishUpload(grpc::CallbackServerContext* context,
                                         const v1::FinishUploadRequest* request,
                                         v1::Blob* response) override {
    return HandleLongPoll(
        context, pool_, request, response,
        {.wait = absl::Milliseconds(200), .interval = absl::Milliseconds(5)},
        [this](const v1::FinishUploadRequest&)
            -> absl::StatusOr<std::optional<v1::Blob>> {
          ++looks;
          if (!ready) return std::optional<v1::Blob>();
          v1::Blob blob;
          blob.set_size_bytes(7);
          return std::optional<v1::Blob>(blob);
        });
  }
  grpc::ServerReadReactor<v1::WriteUploadRequest>* WriteUpload(
      grpc::CallbackServerContext* context, v1::Upload* response) override {
    auto pass = gate_.Admit(context, CallerKey(*context));
    if (!pass.ok()) {
      return RefuseReceiving<v1::WriteUploadRequest>(pass.status());
    }
    return ReceiveStream<v1::WriteUploadRequest, v1::Upload>(
        pool_, response, std::make_unique<SummingSink>(ended),
        *std::move(pass));
  }

  std::function<void()> hold;
  std::atomic<bool> ready = false;
  std::atomic<int> looks = 0;
  std::atomic<int> ended = 0;

 private:
  ThreadPool& pool_;
  StreamGate& gate_;
};

// Counts to the offset, waiting once on the way, with chunks of the limit.
class CountingSource : public StreamSource<v1::ReadResponse> {
 public:
  CountingSource(const v1::ReadRequest& request, std::atomic<int>& made)
      : request_(request), made_(made) {}
  absl::StatusOr<Step> Next(v1::ReadResponse& response) override {
    ++made_;
    if (request_.limit() < 0 && next_ == 2) {
      return absl::DataLossError("broken");
    }
    if (next_ == request_.offset()) return Step::kEnd;
    if (next_ == 1 && !has_waited_) {
      has_waited_ = true;
      return Step::kWait;
    }
    response.set_offset(next_++);
    response.mutable_chunk()->resize(
        static_cast<size_t>(std::max<int64_t>(0, request_.limit())));
    return Step::kMessage;
  }

 private:
  const v1::ReadRequest request_;
  std::atomic<int>& made_;
  int64_t next_ = 0;
  bool has_waited_ = false;
};

class TestDownloads : public v1::DownloadService::CallbackService {
 public:
  explicit TestDownloads(ThreadPool& pool) : pool_(pool) {}
  grpc::ServerWriteReactor<v1::ReadResponse>* Read(
      grpc::CallbackServerContext* context,
      const v1::ReadRequest* request) override {
    return SendStream<v1::ReadResponse>(
        context, pool_, std::make_unique<CountingSource>(*request, made),
        nullptr, absl::Milliseconds(1));
  }

  // Messages that were asked of sources.
  std::atomic<int> made = 0;

 private:
  ThreadPool& pool_;
};

class ServerCallTest : public ::testing::Test {
 protected:
  ServerCallTest() {
    grpc::ServerBuilder builder;
    BoundTransport(builder);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&uploads_);
    builder.RegisterService(&downloads_);
    server_ = builder.BuildAndStart();
    auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_),
                                       grpc::InsecureChannelCredentials());
    upload_stub_ = v1::UploadService::NewStub(channel);
    download_stub_ = v1::DownloadService::NewStub(channel);
  }
  ~ServerCallTest() override { server_->Shutdown(); }

  absl::Status Get(const std::string& name, v1::Upload& upload,
                   const std::string& authorization = "") {
    grpc::ClientContext context;
    if (!authorization.empty()) {
      context.AddMetadata("authorization", authorization);
    }
    v1::GetUploadRequest request;
    request.set_name(name);
    return FromGrpcStatus(upload_stub_->GetUpload(&context, request, &upload));
  }

  FakeClock clock_;
  ThreadPool pool_{{.threads = 1, .queue_max = 1}};
  StreamGate gate_{{.streams_max = 1}, clock_};
  TestUploads uploads_{pool_, gate_};
  TestDownloads downloads_{pool_};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::UploadService::Stub> upload_stub_;
  std::unique_ptr<v1::DownloadService::Stub> download_stub_;
};

TEST_F(ServerCallTest, UnaryAnswersAndErrorsTravel) {
  v1::Upload upload;
  ASSERT_TRUE(Get("uploads/u ", upload, "Bearer x").ok());
  EXPECT_EQ(upload.name(), "uploads/u Bearer x");
  EXPECT_EQ(Get("", upload), absl::NotFoundError("no name"));
}

TEST_F(ServerCallTest, MessagesAreBounded) {
  v1::Upload upload;
  absl::Status status = Get(std::string(kMessageBytesMax + 1, 'x'), upload);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST_F(ServerCallTest, FullPoolRefusesWithADelay) {
  std::promise<void> started;
  std::promise<void> release;
  ASSERT_TRUE(pool_.Submit([&] {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  ASSERT_TRUE(pool_.Submit([] {}));
  v1::Upload upload;
  absl::Status status = Get("uploads/u", upload);
  release.set_value();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(GetRetryDelay(status), absl::Seconds(1));
}

TEST_F(ServerCallTest, LongPollAnswersWhenThereIsSomething) {
  std::jthread later([this] {
    while (uploads_.looks < 3) std::this_thread::yield();
    uploads_.ready = true;
  });
  grpc::ClientContext context;
  v1::Blob blob;
  ASSERT_TRUE(upload_stub_->FinishUpload(&context, {}, &blob).ok());
  EXPECT_EQ(blob.size_bytes(), 7);
}

TEST_F(ServerCallTest, LongPollEndsEmptyWhenTheTimeIsUp) {
  grpc::ClientContext context;
  v1::Blob blob;
  ASSERT_TRUE(upload_stub_->FinishUpload(&context, {}, &blob).ok());
  EXPECT_EQ(blob.size_bytes(), 0);
  EXPECT_GT(uploads_.looks, 3);
}

TEST_F(ServerCallTest, SinkTakesEveryMessageInOrder) {
  grpc::ClientContext context;
  v1::Upload upload;
  auto writer = upload_stub_->WriteUpload(&context, &upload);
  v1::WriteUploadRequest request;
  for (int i = 1; i <= 100; ++i) {
    request.set_offset(i);
    ASSERT_TRUE(writer->Write(request));
  }
  writer->WritesDone();
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(upload.committed_bytes(), 5050);
}

TEST_F(ServerCallTest, SinkErrorEndsTheCallWithItsReason) {
  grpc::ClientContext context;
  v1::Upload upload;
  auto writer = upload_stub_->WriteUpload(&context, &upload);
  v1::WriteUploadRequest request;
  request.set_offset(-1);
  writer->Write(request);
  absl::Status status = FromGrpcStatus(writer->Finish());
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(GetReason(status)->code, "LIMIT_EXCEEDED");
  EXPECT_EQ(uploads_.ended, 0);
}

TEST_F(ServerCallTest, BrokenStreamStillEndsItsSink) {
  {
    grpc::ClientContext context;
    v1::Upload upload;
    auto writer = upload_stub_->WriteUpload(&context, &upload);
    ASSERT_TRUE(writer->Write({}));
    while (gate_.open_streams() == 0) std::this_thread::yield();
    context.TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  while (gate_.open_streams() > 0) std::this_thread::yield();
  EXPECT_EQ(uploads_.ended, 1);
}

TEST_F(ServerCallTest, GateRefusesMoreStreamsAndEndsIdleOnes) {
  grpc::ClientContext context;
  v1::Upload upload;
  auto idle = upload_stub_->WriteUpload(&context, &upload);
  ASSERT_TRUE(idle->Write({}));
  while (gate_.open_streams() == 0) std::this_thread::yield();
  grpc::ClientContext second_context;
  v1::Upload second_upload;
  auto second = upload_stub_->WriteUpload(&second_context, &second_upload);
  absl::Status refused = FromGrpcStatus(second->Finish());
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(GetRetryDelay(refused).has_value());
  EXPECT_EQ(gate_.EndIdle(), 0);
  clock_.Advance(absl::Minutes(2));
  EXPECT_EQ(gate_.EndIdle(), 1);
  EXPECT_FALSE(idle->Finish().ok());
  while (gate_.open_streams() > 0) std::this_thread::yield();
}

TEST(StreamGateTest, OneCallerCannotTakeEveryPlace) {
  FakeClock clock;
  StreamGate gate({.streams_max = 3, .caller_streams_max = 2}, clock);
  auto first = gate.Admit(nullptr, "a");
  auto second = gate.Admit(nullptr, "a");
  ASSERT_TRUE(first.ok() && second.ok());
  absl::Status refused = gate.Admit(nullptr, "a").status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(gate.Admit(nullptr, "b").ok());
  first->reset();
  EXPECT_TRUE(gate.Admit(nullptr, "a").ok());
}

TEST(StreamGateTest, TheMoreAreRefusedTheLongerTheyWait) {
  FakeClock clock;
  StreamGate gate({.streams_max = 1}, clock);
  auto only = gate.Admit(nullptr, "a");
  ASSERT_TRUE(only.ok());
  absl::Duration last = absl::ZeroDuration();
  for (int i = 0; i < 3; ++i) {
    auto asked = GetRetryDelay(gate.Admit(nullptr, "b").status());
    ASSERT_TRUE(asked.has_value());
    EXPECT_GT(*asked, last);
    last = *asked;
  }
  for (int i = 0; i < 100; ++i) (void)gate.Admit(nullptr, "b");
  EXPECT_EQ(GetRetryDelay(gate.Admit(nullptr, "b").status()),
            absl::Seconds(30));
  gate.EndIdle();
  EXPECT_LT(*GetRetryDelay(gate.Admit(nullptr, "b").status()),
            absl::Seconds(5));
}

TEST_F(ServerCallTest, LongStreamGivesItsPlaceToThoseThatWait) {
  grpc::ClientContext context;
  v1::Upload upload;
  auto slow = upload_stub_->WriteUpload(&context, &upload);
  ASSERT_TRUE(slow->Write({}));
  while (gate_.open_streams() == 0) std::this_thread::yield();
  EXPECT_FALSE(gate_.Admit(nullptr, "other").ok());
  clock_.Advance(absl::Minutes(3));
  EXPECT_FALSE(gate_.Admit(nullptr, "other").ok());
  EXPECT_FALSE(slow->Finish().ok());
  while (gate_.open_streams() > 0) std::this_thread::yield();
  EXPECT_TRUE(gate_.Admit(nullptr, "other").ok());
}

TEST_F(ServerCallTest, AdmittedStreamIsToldAtOnce) {
  grpc::ClientContext context;
  v1::Upload upload;
  auto writer = upload_stub_->WriteUpload(&context, &upload);
  writer->WaitForInitialMetadata();
  writer->WritesDone();
  EXPECT_TRUE(writer->Finish().ok());
}

TEST_F(ServerCallTest, SourceIsStreamedToItsEnd) {
  grpc::ClientContext context;
  v1::ReadRequest request;
  request.set_offset(50);
  auto reader = download_stub_->Read(&context, request);
  v1::ReadResponse response;
  int seen = 0;
  while (reader->Read(&response)) EXPECT_EQ(response.offset(), seen++);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(seen, 50);
}

TEST_F(ServerCallTest, SlowReaderIsNotReadAheadFor) {
  constexpr int kMessages = 2000;
  grpc::ClientContext context;
  v1::ReadRequest request;
  request.set_offset(kMessages);
  request.set_limit(kChunkBytes);
  auto reader = download_stub_->Read(&context, request);
  v1::ReadResponse response;
  ASSERT_TRUE(reader->Read(&response));
  // Until the source stands still.
  for (int before = -1, still = 0; still < 20; absl::SleepFor(absl::Milliseconds(5))) {
    still = downloads_.made == before ? still + 1 : 0;
    before = downloads_.made;
  }
  // What the sockets and windows hold, far from the 500 MiB of the whole.
  EXPECT_LT(downloads_.made, 100);
  int seen = 1;
  while (reader->Read(&response)) EXPECT_EQ(response.offset(), seen++);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(seen, kMessages);
}

TEST_F(ServerCallTest, SourceErrorEndsTheStream) {
  grpc::ClientContext context;
  v1::ReadRequest request;
  request.set_offset(50);
  request.set_limit(-1);
  auto reader = download_stub_->Read(&context, request);
  v1::ReadResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(FromGrpcStatus(reader->Finish()), absl::DataLossError("broken"));
}

}  // namespace
}  // namespace cairn
