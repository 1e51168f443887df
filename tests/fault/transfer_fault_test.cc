// Bytes over lines that break, and from clients that stutter: what arrives is
// what was sent, once, and nothing is begun from the start again.
// CAIRN_SEED and CAIRN_CUTS choose the plan and how long it is.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cairn/v1/model.grpc.pb.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_download.h"
#include "core/rpc/blob_upload.h"
#include "core/rpc/grpc_status.h"
#include "core/tensor/safetensors.h"
#include "server/testing/in_process_hub.h"
#include "tests/support/cutting_proxy.h"

namespace cairn::testing {
namespace {

using v1::UploadService;

constexpr int64_t kLargeBytes = 100 << 20;
constexpr size_t kChunk = 64 << 10;

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* given = std::getenv(name);
  int64_t number = otherwise;
  if (given != nullptr) CAIRN_CHECK(absl::SimpleAtoi(given, &number));
  return number;
}

std::string Random(uint64_t seed, int64_t size) {
  std::mt19937_64 random(seed);
  std::string bytes(static_cast<size_t>(size), '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class TransferFaultTest : public ::testing::Test {
 protected:
  TransferFaultTest() {
    hub_.AddPerson("ada", v1::User::MAINTAINER);
    const std::string address = hub_.server().grpc_address();
    int port = 0;
    CAIRN_CHECK(
        absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    proxy_ = std::make_unique<CuttingProxy>(port, seed_);
    far_ = hub_.Connect("ada", proxy_->address());
    near_ = hub_.Connect("ada");
  }

  absl::Status Upload(HubChannel& hub, const std::string& bytes) {
    return UploadBlobs(hub, {{.sha256 = Digest::Of(bytes),
                              .size_bytes = static_cast<int64_t>(bytes.size()),
                              .source = MakeMemorySource(bytes),
                              .offset = 0}});
  }

  // A model whose one tensor is `bytes`; where its file is read.
  v1::ReadRequest MakeModel(const std::string& bytes) {
    auto layout = LayOutSafetensors(
        {{"a", DType::kU8, {static_cast<int64_t>(bytes.size())}}}, {});
    CAIRN_CHECK(layout.ok());
    const std::string config = R"({"architectures": ["LlamaForCausalLM"]})";
    v1::CreateModelRequest request;
    request.set_model_id("m");
    request.set_license("MIT");
    for (const auto& [path, parts] :
         std::vector<std::pair<std::string, std::vector<std::string>>>{
             {"model.safetensors", {layout->header, bytes}},
             {"config.json", {config}}}) {
      v1::ModelFile& file = *request.add_files();
      file.mutable_file()->set_path(path);
      std::string whole;
      for (const std::string& part : parts) {
        EXPECT_TRUE(Upload(*near_, part).ok());
        file.add_segments(Digest::Of(part).hex());
        whole += part;
      }
      file.mutable_file()->set_size_bytes(static_cast<int64_t>(whole.size()));
      file.mutable_file()->set_sha256(Digest::Of(whole).hex());
    }
    auto model = near_->Call(&v1::ModelService::Stub::CreateModel, request);
    EXPECT_TRUE(model.ok()) << model.status();
    v1::ReadRequest read;
    read.mutable_release_file()->set_release("models/m/releases/v1.0.0");
    read.mutable_release_file()->set_path("model.safetensors");
    file_sha256_ = request.files(0).file().sha256();
    file_bytes_ = request.files(0).file().size_bytes();
    return read;
  }

  v1::Upload Begin(const std::string& content, const std::string& id) {
    v1::BeginUploadRequest begin;
    begin.set_size_bytes(static_cast<int64_t>(content.size()));
    begin.set_request_id(id);
    auto upload = near_->Call(&UploadService::Stub::BeginUpload, begin);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.value_or(v1::Upload());
  }

  // One stream with these chunks, in this order.
  absl::StatusOr<v1::Upload> Send(HubChannel& hub, const std::string& name,
                                  const std::string& content,
                                  const std::vector<size_t>& offsets,
                                  absl::Duration deadline) {
    UploadService::Stub stub(hub.channel());
    v1::Upload reply;
    absl::Status sent = hub.RunOnce(deadline, [&](grpc::ClientContext& c) {
      auto writer = stub.WriteUpload(&c, &reply);
      v1::WriteUploadRequest request;
      request.set_name(name);
      for (size_t at : offsets) {
        request.set_offset(static_cast<int64_t>(at));
        request.set_chunk(content.substr(at, kChunk));
        request.set_crc32c(Crc32c(request.chunk()));
        if (!writer->Write(request)) break;
      }
      writer->WritesDone();
      return writer->Finish();
    });
    if (!sent.ok()) return sent;
    return reply;
  }

  absl::StatusOr<v1::Blob> Finish(HubChannel& hub, const std::string& name,
                                  const std::string& content,
                                  const CallOptions& options = {}) {
    v1::FinishUploadRequest finish;
    finish.set_name(name);
    finish.set_sha256(Digest::Of(content).hex());
    return hub.Call(&UploadService::Stub::FinishUpload, finish, options);
  }

  const uint64_t seed_ =
      static_cast<uint64_t>(FromEnvironment("CAIRN_SEED", 20264));
  InProcessHub hub_;
  std::unique_ptr<CuttingProxy> proxy_;
  std::unique_ptr<HubChannel> far_;
  std::unique_ptr<HubChannel> near_;
  std::string file_sha256_;
  int64_t file_bytes_ = 0;
};

TEST_F(TransferFaultTest, CutConnectionsLoseNothing) {
  SCOPED_TRACE(absl::StrCat("CAIRN_SEED=", seed_));
  const auto cuts = static_cast<int>(FromEnvironment("CAIRN_CUTS", 6));
  // Cut after 200 kB on average, so that half of them get something through.
  constexpr int64_t kBytesMax = 400 << 10;
  const std::string bytes = Random(seed_, (8 << 20) + cuts * (kBytesMax / 2));
  absl::Time start = absl::Now();
  proxy_->Set({.cuts = cuts, .bytes_max = kBytesMax});
  absl::Status up = Upload(*far_, bytes);
  ASSERT_TRUE(up.ok()) << up << " after " << proxy_->cuts() << " cuts";
  std::cout << "upload of " << bytes.size() << " bytes: " << proxy_->cuts()
            << " cuts, " << absl::Now() - start << "\n";
  const int first = proxy_->cuts();
  EXPECT_GE(first, cuts);

  proxy_->Set({});
  const v1::ReadRequest read = MakeModel(bytes);
  EXPECT_FALSE(::testing::Test::HasFailure());
  const std::string path =
      absl::StrCat(hub_.data_dir(), "/../model.safetensors");
  start = absl::Now();
  proxy_->Set({.cuts = cuts, .bytes_max = kBytesMax});
  // What was connected before is not cut: a new channel.
  far_ = hub_.Connect("ada", proxy_->address());
  absl::Status down =
      DownloadFile(*far_, read, file_sha256_, file_bytes_, path);
  ASSERT_TRUE(down.ok()) << down << " after " << proxy_->cuts() - first;
  std::cout << "download: " << proxy_->cuts() - first << " cuts, "
            << absl::Now() - start << "\n";
  EXPECT_GE(proxy_->cuts() - first, cuts);
  auto got = ReadFile(path, int64_t{1} << 32);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(Digest::Of(*got).hex(), file_sha256_);
}

// Every call, be it a stream, has one second; the line carries 100 MiB in
// five.
TEST_F(TransferFaultTest, ASecondACallIsEnoughForALargeUpload) {
  proxy_->Set({.rate = 20 << 20});
  const CallOptions second = {.deadline = absl::Seconds(1)};
  const std::string content = Random(seed_, kLargeBytes);
  v1::Upload upload = Begin(content, "large");
  int streams = 0;
  int64_t resumed_at = 0;
  while (upload.committed_bytes() < kLargeBytes && streams < 200) {
    std::vector<size_t> offsets;
    for (auto at = static_cast<size_t>(upload.committed_bytes());
         at < content.size(); at += kChunk) {
      offsets.push_back(at);
    }
    ++streams;
    auto sent = Send(*far_, upload.name(), content, offsets, absl::Seconds(1));
    if (!sent.ok()) {
      EXPECT_THAT(sent.status().code(),
                  ::testing::AnyOf(absl::StatusCode::kDeadlineExceeded,
                                   absl::StatusCode::kAborted))
          << sent.status();
    }
    v1::GetUploadRequest get;
    get.set_name(upload.name());
    auto now = far_->Call(&UploadService::Stub::GetUpload, get, second);
    if (!now.ok()) continue;  // it had a second, too
    EXPECT_GE(now->committed_bytes(), upload.committed_bytes());
    upload = *now;
    resumed_at = std::max(resumed_at, upload.committed_bytes());
  }
  ASSERT_EQ(upload.committed_bytes(), kLargeBytes);
  EXPECT_GE(streams, 5);
  absl::StatusOr<v1::Blob> blob;
  for (int i = 0; i < 60; ++i) {
    blob = Finish(*far_, upload.name(), content, second);
    if (blob.ok()) break;
    absl::SleepFor(absl::Milliseconds(100));
  }
  ASSERT_TRUE(blob.ok()) << blob.status();
  EXPECT_EQ(blob->sha256(), Digest::Of(content).hex());
  std::cout << streams << " streams of a second\n";
}

TEST_F(TransferFaultTest, DuplicatedReorderedAndReplayedChunksAreHarmless) {
  SCOPED_TRACE(absl::StrCat("CAIRN_SEED=", seed_));
  std::mt19937_64 random(seed_);
  const std::string content = Random(seed_, 40 * kChunk + 1234);
  const auto size = static_cast<int64_t>(content.size());
  v1::Upload upload = Begin(content, "stutter");
  EXPECT_EQ(Begin(content, "stutter").name(), upload.name()) << "replayed";
  int64_t committed = 0;
  for (int round = 0; committed < size && round < 500; ++round) {
    std::vector<size_t> offsets;
    auto at = static_cast<size_t>(committed);
    for (size_t i = random() % 8; i > 0; --i) {
      switch (random() % 4) {
        case 0:  // again, from somewhere before
          offsets.push_back(random() % (at + 1));
          break;
        case 1:  // ahead
          if (at + kChunk < content.size()) offsets.push_back(at + kChunk);
          break;
        default:
          if (at < content.size()) offsets.push_back(at);
          at = std::min(content.size(), at + kChunk);
      }
    }
    if (offsets.empty()) continue;
    auto sent =
        Send(*near_, upload.name(), content, offsets, absl::Seconds(20));
    if (!sent.ok()) {
      // Only what leaves a gap is refused, and the answer says where to go on.
      EXPECT_EQ(sent.status().code(), absl::StatusCode::kFailedPrecondition)
          << sent.status();
      EXPECT_TRUE(GetReason(sent.status())->details.contains("committed_bytes"))
          << sent.status();
    }
    v1::Upload now = Begin(content, "stutter");
    EXPECT_EQ(now.name(), upload.name());
    EXPECT_GE(now.committed_bytes(), committed);
    committed = now.committed_bytes();
  }
  ASSERT_EQ(committed, size);
  // Other bytes for a stored range are refused and change nothing.
  const std::string other(content.size(), 'x');
  auto forged = Send(*near_, upload.name(), other, {0}, absl::Seconds(20));
  EXPECT_TRUE(absl::IsInvalidArgument(forged.status())) << forged.status();
  for (int i = 0; i < 3; ++i) {
    auto blob = Finish(*near_, upload.name(), content);
    ASSERT_TRUE(blob.ok()) << blob.status();
    EXPECT_EQ(blob->size_bytes(), size);
  }
  auto late = Send(*near_, upload.name(), content, {0}, absl::Seconds(20));
  EXPECT_TRUE(absl::IsNotFound(late.status())) << late.status();
}

}  // namespace
}  // namespace cairn::testing
