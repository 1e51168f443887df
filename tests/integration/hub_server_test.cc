#include "server/hub_server.h"

#include <grpcpp/generic/generic_stub.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/event.grpc.pb.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/testing/in_process_hub.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

TEST(HubServerTest, SaysWhatItIsToAnybody) {
  testing::InProcessHub hub;
  auto told =
      hub.Connect("")->Call(&v1::HubService::Stub::GetHub, v1::GetHubRequest());
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->root_fingerprint().size(), 64u);
  EXPECT_THAT(
      told->encodings(),
      ::testing::ElementsAre("LORA", "SPARSE", "DENSE", "IA3", "SHIRA",
                             "TERNARY", "BIT", "INT8", "INT4", "LOW_RANK"));
  EXPECT_GT(told->limits().suite_bytes_max(), 0);
  EXPECT_THAT(told->formats(), ::testing::ElementsAre("safetensors"));
  EXPECT_THAT(told->digests(), ::testing::ElementsAre("sha256"));
  EXPECT_THAT(told->compressors(), ::testing::ElementsAre("identity"));
  EXPECT_EQ(told->chunk_bytes_max(), 256 << 10);
  EXPECT_EQ(told->limits().open_uploads_max(), 16);
  EXPECT_EQ(told->limits().streams_max(), 64);
  EXPECT_EQ(told->limits().caller_streams_max(), 16);
  EXPECT_EQ(told->limits().upload_bytes_max(), int64_t{1} << 40);
  EXPECT_EQ(told->limits().quota().stored_bytes(), int64_t{1} << 40);
}

TEST(HubServerTest, AnswersTheStandardHealthCheck) {
  testing::InProcessHub hub;
  auto channel = hub.Connect("");
  grpc::GenericStub stub(channel->channel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::Slice nothing;
  grpc::ByteBuffer request(&nothing, 1), response;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                    request, &queue);
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  EXPECT_EQ(
      std::string(reinterpret_cast<const char*>(answer.begin()), answer.size()),
      std::string("\x08\x01", 2))
      << "status: SERVING";
}

TEST(HubServerTest, ServesItsOwnMachineWithoutTlsWhenAsked) {
  EXPECT_EQ(testing::InProcessHub().server().plain_address(), "");
  const std::string socket =
      absl::StrCat("unix:/tmp/cairn-plain-", getpid(), ".sock");
  for (const std::string& listen : {std::string("127.0.0.1:0"), socket}) {
    HubConfig config;
    config.plain_listen = listen;
    testing::InProcessHub hub(config);
    const std::string& plain = hub.server().plain_address();
    EXPECT_TRUE(absl::StartsWith(plain, "http://127.0.0.1:") || plain == socket)
        << plain;
    auto user = hub.Connect("admin", plain)
                    ->Call(&v1::IdentityService::Stub::GetProfile,
                           v1::GetProfileRequest());
    ASSERT_TRUE(user.ok()) << user.status();
    EXPECT_EQ(user->name(), "users/admin");
    // Tokens are asked for as everywhere, and TLS goes on beside.
    auto stranger = hub.Connect("", plain)->Call(
        &v1::IdentityService::Stub::GetProfile, v1::GetProfileRequest());
    EXPECT_EQ(stranger.status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_TRUE(hub.Connect("admin")
                    ->Call(&v1::IdentityService::Stub::GetProfile,
                           v1::GetProfileRequest())
                    .ok());
  }
}

TEST(HubServerTest, TakesNoTokensInTheClearFromElsewhere) {
  testing::InProcessHub hub;
  hub.Stop();
  HubConfig config;
  config.listen = config.http_listen = "127.0.0.1:0";
  config.plain_listen = "0.0.0.0:0";
  auto server =
      HubServer::Start({.data_dir = hub.data_dir(), .config = config});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  config.plain_listen = "unix:/nonexistent/hub.sock";
  server = HubServer::Start({.data_dir = hub.data_dir(), .config = config});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(server.status().message()),
              HasSubstr("unix:/nonexistent/hub.sock"));
}

TEST(HubServerTest, SecondHubOnTheSameDirectoryIsRefused) {
  testing::InProcessHub hub;
  HubConfig config;
  config.listen = config.http_listen = "127.0.0.1:0";
  auto rival = HubServer::Start({.data_dir = hub.data_dir(), .config = config});
  EXPECT_EQ(rival.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(hub.Connect("admin")
                  ->Call(&v1::IdentityService::Stub::GetProfile,
                         v1::GetProfileRequest())
                  .ok());
}

TEST(HubServerTest, DirectoryThatIsNoHubIsRefused) {
  auto server = HubServer::Start({.data_dir = "/nonexistent/hub"});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(server.status().message()),
              HasSubstr("cairnd init --data-dir"));
}

TEST(HubServerTest, PortInUseIsUnavailable) {
  testing::InProcessHub one;
  testing::InProcessHub two;
  two.Stop();
  HubConfig config;
  config.http_listen = "127.0.0.1:0";
  config.listen = one.server().grpc_address();
  auto server =
      HubServer::Start({.data_dir = two.data_dir(), .config = config});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr(config.listen));
}

TEST(HubServerTest, WhatWasAcknowledgedIsThereAfterARestart) {
  testing::InProcessHub hub;
  hub.AddPerson("ada", v1::User::CONTRIBUTOR);
  auto before = hub.Connect("ada")->Call(&v1::IdentityService::Stub::GetProfile,
                                         v1::GetProfileRequest());
  ASSERT_TRUE(before.ok());
  hub.Stop();
  hub.Start();
  auto after = hub.Connect("ada")->Call(&v1::IdentityService::Stub::GetProfile,
                                        v1::GetProfileRequest());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->SerializeAsString(), before->SerializeAsString());
}

TEST(HubServerTest, DrainEndsCallsThatWouldNotEndByThemselves) {
  HubConfig config;
  config.drain_timeout = absl::Milliseconds(300);
  testing::InProcessHub hub(config);
  auto channel = hub.Connect("admin");
  v1::WatchEventsRequest request;
  request.set_parent("models/m");
  auto stub = v1::EventService::NewStub(channel->channel());
  grpc::ClientContext context;
  auto stream = stub->WatchEvents(&context, request);
  absl::Time begin = absl::Now();
  hub.Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  v1::Event event;
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_FALSE(stream->Finish().ok());
}

}  // namespace
}  // namespace cairn
