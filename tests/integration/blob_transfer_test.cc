// Blobs over real TLS connections to a hub that breaks on plan.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <stop_token>

#include "absl/time/clock.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_download.h"
#include "core/rpc/blob_upload.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/hub_channel.h"
#include "core/rpc/limits.h"
#include "server/setup/certificate_authority.h"
#include "tests/integration/local_server.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

// Keeps uploads in memory, for one call at a time. Each entry of `breaks` ends
// one WriteUpload stream with UNAVAILABLE after so many bytes.
class FaultyUploads : public v1::UploadService::Service {
 public:
  std::vector<int64_t> breaks;
  int64_t received = 0;
  int streams = 0;
  int refusals = 0;
  std::map<std::string, std::string> blobs;

  grpc::Status FindMissing(grpc::ServerContext*,
                           const v1::FindMissingRequest* request,
                           v1::FindMissingResponse* response) override {
    MutexLock lock(mutex_);
    for (const std::string& sha256 : request->sha256()) {
      if (!blobs.contains(sha256)) response->add_missing(sha256);
    }
    return grpc::Status::OK;
  }

  grpc::Status BatchUpload(grpc::ServerContext*,
                           const v1::BatchUploadRequest* request,
                           v1::BatchUploadResponse*) override {
    MutexLock lock(mutex_);
    for (const auto& item : request->items()) {
      EXPECT_EQ(Digest::Of(item.data()).hex(), item.sha256());
      blobs[item.sha256()] = item.data();
      received += static_cast<int64_t>(item.data().size());
    }
    return grpc::Status::OK;
  }

  grpc::Status BeginUpload(grpc::ServerContext*,
                           const v1::BeginUploadRequest* request,
                           v1::Upload* upload) override {
    MutexLock lock(mutex_);
    if (refusals > 0) {
      --refusals;
      return ToGrpcStatus(WithRetryDelay(absl::ResourceExhaustedError("busy"),
                                         absl::Milliseconds(10)));
    }
    Describe(request->sha256(), upload);
    return grpc::Status::OK;
  }

  grpc::Status WriteUpload(grpc::ServerContext*,
                           grpc::ServerReader<v1::WriteUploadRequest>* reader,
                           v1::Upload* upload) override {
    MutexLock lock(mutex_);
    ++streams;
    int64_t left = -1;
    if (!breaks.empty()) {
      left = breaks.front();
      breaks.erase(breaks.begin());
    }
    v1::WriteUploadRequest request;
    std::string name;
    while (reader->Read(&request)) {
      name = request.name();
      std::string& open = open_[name];
      EXPECT_EQ(request.offset(), static_cast<int64_t>(open.size()));
      EXPECT_EQ(request.crc32c(), Crc32c(request.chunk()));
      const auto size = static_cast<int64_t>(request.chunk().size());
      if (left >= 0 && size > left) {
        open += request.chunk().substr(0, static_cast<size_t>(left));
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on plan");
      }
      if (left >= 0) left -= size;
      open += request.chunk();
      received += size;
    }
    Describe(name, upload);
    return grpc::Status::OK;
  }

  grpc::Status FinishUpload(grpc::ServerContext*,
                            const v1::FinishUploadRequest* request,
                            v1::Blob*) override {
    MutexLock lock(mutex_);
    EXPECT_EQ(Digest::Of(open_[request->name()]).hex(), request->sha256());
    blobs[request->sha256()] = open_[request->name()];
    return grpc::Status::OK;
  }

 private:
  void Describe(const std::string& name, v1::Upload* upload) {
    upload->set_name(name);
    upload->set_committed_bytes(static_cast<int64_t>(open_[name].size()));
  }

  Mutex mutex_;
  std::map<std::string, std::string> open_;
};

// Serves one text; each entry of `breaks` ends one stream after so many bytes.
class FaultyDownloads : public v1::DownloadService::Service {
 public:
  std::string content;
  std::vector<int64_t> breaks;
  bool damages_crc = false;
  // The stream ends here as if it were the end of the content.
  int64_t ends_at = INT64_MAX;
  std::atomic<int64_t> sent = 0;
  std::set<std::string> peers;
  // So many of the next streams take their time.
  std::atomic<int> slow_streams = 0;

  grpc::Status Read(grpc::ServerContext* context,
                    const v1::ReadRequest* request,
                    grpc::ServerWriter<v1::ReadResponse>* writer) override {
    int64_t left = Arrive(context->peer());
    if (--slow_streams >= 0) absl::SleepFor(absl::Milliseconds(700));
    const auto size = static_cast<int64_t>(content.size());
    const int64_t end = std::min(
        ends_at, request->limit() > 0
                     ? std::min(size, request->offset() + request->limit())
                     : size);
    for (int64_t at = request->offset(); at < end || at == request->offset();) {
      const int64_t chunk = std::min<int64_t>(100'000, end - at);
      if (chunk < 0) break;
      if (left >= 0 && chunk > left) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken on plan");
      }
      if (left >= 0) left -= chunk;
      v1::ReadResponse response;
      response.set_offset(at);
      response.set_chunk(
          content.substr(static_cast<size_t>(at), static_cast<size_t>(chunk)));
      response.set_crc32c(Crc32c(response.chunk()) + (damages_crc ? 1 : 0));
      response.set_size_bytes(size);
      writer->Write(response);
      sent += chunk;
      at += chunk;
      if (chunk == 0) break;
    }
    return grpc::Status::OK;
  }

 private:
  // After how many bytes the stream breaks; -1: not at all.
  int64_t Arrive(const std::string& peer) {
    MutexLock lock(mutex_);
    peers.insert(peer);
    if (breaks.empty()) return -1;
    const int64_t left = breaks.front();
    breaks.erase(breaks.begin());
    return left;
  }

  Mutex mutex_;
};

class BlobTransferTest : public ::testing::Test {
 protected:
  BlobTransferTest() {
    char name[] = "/tmp/cairn-transfer-test-XXXXXX";
    directory_ = mkdtemp(name);
    server_ = std::make_unique<testing::LocalServer>(
        std::vector<grpc::Service*>{&uploads_, &downloads_});
    hub_ = server_->Connect(stop_.get_token());
  }
  ~BlobTransferTest() override { std::filesystem::remove_all(directory_); }

  OutgoingBlob Blob(const std::string& bytes) {
    return {.sha256 = Digest::Of(bytes),
            .size_bytes = static_cast<int64_t>(bytes.size()),
            .source = MakeMemorySource(bytes),
            .offset = 0};
  }

  std::stop_source stop_;
  std::string directory_;
  FaultyUploads uploads_;
  FaultyDownloads downloads_;
  std::unique_ptr<testing::LocalServer> server_;
  std::unique_ptr<HubChannel> hub_;
};

TEST_F(BlobTransferTest, SmallAndLargeBlobsArrive) {
  const std::string large = RandomBytes(3 << 20);
  std::vector<OutgoingBlob> blobs = {Blob("a"), Blob(""), Blob(large)};
  int64_t progress = 0;
  absl::Status status =
      UploadBlobs(*hub_, blobs, [&](int64_t n) { progress += n; });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(uploads_.blobs.size(), 3u);
  EXPECT_EQ(uploads_.blobs[Digest::Of(large).hex()], large);
  EXPECT_EQ(progress, (3 << 20) + 1);
}

TEST_F(BlobTransferTest, WhatTheHubHasIsNotSentAgain) {
  const std::vector<OutgoingBlob> blobs = {Blob("a"),
                                           Blob(RandomBytes(2 << 20))};
  ASSERT_TRUE(UploadBlobs(*hub_, blobs).ok());
  const int64_t first = uploads_.received;
  ASSERT_TRUE(UploadBlobs(*hub_, blobs).ok());
  EXPECT_EQ(uploads_.received, first);
}

TEST_F(BlobTransferTest, BrokenUploadsGoOnWhereTheyBroke) {
  const std::string large = RandomBytes(5 << 20);
  uploads_.breaks = {1'000'000, 0, 700'001, 2'000'000};
  int64_t progress = 0;
  absl::Status status =
      UploadBlobs(*hub_, {Blob(large)}, [&](int64_t n) { progress += n; });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(uploads_.streams, 5);
  EXPECT_EQ(uploads_.blobs[Digest::Of(large).hex()], large);
  EXPECT_EQ(progress, 5 << 20);
}

TEST_F(BlobTransferTest, ABusyHubIsAskedAgain) {
  uploads_.refusals = 3;
  const std::string large = RandomBytes(2 << 20);
  EXPECT_TRUE(UploadBlobs(*hub_, {Blob(large)}).ok());
}

TEST_F(BlobTransferTest, AStopRequestEndsTheUpload) {
  stop_.request_stop();
  EXPECT_TRUE(absl::IsCancelled(UploadBlobs(*hub_, {Blob("a")})));
}

TEST_F(BlobTransferTest, BrokenDownloadsGoOnWhereTheyBroke) {
  downloads_.content = RandomBytes(1'234'567);
  downloads_.breaks = {0, 250'000, 99'999, 500'000};
  auto bytes = DownloadBytes(*hub_, v1::ReadRequest(),
                             Digest::Of(downloads_.content).hex());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, downloads_.content);
  EXPECT_EQ(downloads_.sent, 1'234'567);
}

TEST_F(BlobTransferTest, AnEmptyFileIsEmpty) {
  EXPECT_EQ(*DownloadBytes(*hub_, v1::ReadRequest(), ""), "");
}

TEST_F(BlobTransferTest, DamageIsDataLoss) {
  downloads_.content = "content";
  EXPECT_TRUE(absl::IsDataLoss(
      DownloadBytes(*hub_, v1::ReadRequest(), Digest::Of("other").hex())
          .status()));
  downloads_.damages_crc = true;
  auto bytes = DownloadBytes(*hub_, v1::ReadRequest(), "");
  EXPECT_TRUE(absl::IsDataLoss(bytes.status()));
  EXPECT_THAT(bytes.status().ToString(), HasSubstr("offset 0"));
}

TEST_F(BlobTransferTest, ATruncatedSourceIsNoSuccess) {
  downloads_.content = RandomBytes(900'000);
  downloads_.ends_at = 300'000;
  const std::string path = directory_ + "/file";
  const std::string sha256 = Digest::Of(downloads_.content).hex();
  absl::Status status =
      DownloadFile(*hub_, v1::ReadRequest(), sha256, 900'000, path);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("300000"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(absl::IsDataLoss(
      DownloadBytes(*hub_, v1::ReadRequest(), sha256).status()));
  // What came is worth keeping: once the hub is whole, only the rest is sent.
  downloads_.ends_at = INT64_MAX;
  downloads_.sent = 0;
  status = DownloadFile(*hub_, v1::ReadRequest(), sha256, 900'000, path);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ReadFile(path), downloads_.content);
  EXPECT_EQ(downloads_.sent, 600'000);
}

TEST_F(BlobTransferTest, LargeBlobsTravelOverSeveralConnections) {
  const std::string large = RandomBytes(kSharedDownloadBytesMin + 12'345);
  downloads_.content = large;
  downloads_.breaks = {5'000'000, 100'000};
  const std::string path = directory_ + "/file";
  const std::string sha256 = Digest::Of(large).hex();
  absl::Status status =
      DownloadFile(*hub_, v1::ReadRequest(), sha256,
                   static_cast<int64_t>(large.size()), path);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Digest::Of(*ReadFile(path, int64_t{1} << 30)).hex(), sha256);
  EXPECT_GT(downloads_.peers.size(), 1u);
}

TEST_F(BlobTransferTest, ASlowLineGetsMoreConnections) {
  const std::string large = RandomBytes(kSharedDownloadBytesMin);
  downloads_.content = large;
  const std::string sha256 = Digest::Of(large).hex();
  const auto size = static_cast<int64_t>(large.size());
  downloads_.slow_streams = 2 * kDownloadLanes;
  ASSERT_TRUE(DownloadFile(*hub_, v1::ReadRequest(), sha256, size,
                           directory_ + "/slow")
                  .ok());
  EXPECT_GT(downloads_.peers.size(), kDownloadLanes);
}

TEST_F(BlobTransferTest, LimitsHold) {
  downloads_.content = std::string(1000, 'x');
  auto bytes = DownloadBytes(*hub_, v1::ReadRequest(), "", 999);
  EXPECT_EQ(GetReason(bytes.status())->code, "LIMIT_EXCEEDED");
}

TEST_F(BlobTransferTest, FilesGoOnFromWhatIsThere) {
  downloads_.content = RandomBytes(1'000'000);
  const std::string path = directory_ + "/file";
  const std::string sha256 = Digest::Of(downloads_.content).hex();
  ASSERT_TRUE(
      WriteFile(path + ".part", downloads_.content.substr(0, 400'000)).ok());
  absl::Status status =
      DownloadFile(*hub_, v1::ReadRequest(), sha256, 1'000'000, path);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ReadFile(path), downloads_.content);
  EXPECT_EQ(downloads_.sent, 600'000);
}

TEST_F(BlobTransferTest, RemainsOfAnotherFileAreReplaced) {
  downloads_.content = RandomBytes(300'000);
  const std::string path = directory_ + "/file";
  ASSERT_TRUE(WriteFile(path + ".part", "something else").ok());
  absl::Status status =
      DownloadFile(*hub_, v1::ReadRequest(),
                   Digest::Of(downloads_.content).hex(), 300'000, path);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ReadFile(path), downloads_.content);
}

TEST_F(BlobTransferTest, AWrongFileLeavesNothing) {
  downloads_.content = "wrong";
  const std::string path = directory_ + "/file";
  EXPECT_TRUE(absl::IsDataLoss(DownloadFile(
      *hub_, v1::ReadRequest(), Digest::Of("right").hex(), 5, path)));
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(BlobTransferTest, RangesAreReadAsAsked) {
  downloads_.content = RandomBytes(500'000);
  auto source = MakeRemoteSource(*hub_, v1::ReadRequest(), 500'000);
  std::string out(250'000, '\0');
  ASSERT_TRUE(source->ReadAt(200'000, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, downloads_.content.substr(200'000, 250'000));
  EXPECT_TRUE(absl::IsOutOfRange(source->ReadAt(400'000, absl::MakeSpan(out))));
}

TEST_F(BlobTransferTest, AHubOfAnotherAuthorityIsNotSpokenTo) {
  auto other =
      MakeAuthority("other", absl::Now() - absl::Hours(1), absl::Hours(2));
  auto stranger = HubChannel::Create({.address = server_->address(),
                                      .ca_pem = other->certificate,
                                      .token = "",
                                      .stop = {}});
  ASSERT_TRUE(stranger.ok()) << stranger.status();
  const absl::Time start = absl::Now();
  absl::Status status = UploadBlobs(**stranger, {Blob("a")});
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr("CERTIFICATE_VERIFY_FAILED"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_EQ(uploads_.received, 0);
}

TEST_F(BlobTransferTest, TokensThatCannotTravelAreRefused) {
  auto hub = HubChannel::Create({.address = server_->address(),
                                 .ca_pem = server_->ca(),
                                 .token = "a\nb",
                                 .stop = {}});
  EXPECT_TRUE(absl::IsInvalidArgument(hub.status()));
}

}  // namespace
}  // namespace cairn
