// Every service of a real hub, asked wrongly: each request gets its exact
// status and a message that names what is wrong, and leaves nothing behind.

#include <functional>

#include "cairn/v1/batch.grpc.pb.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/event.grpc.pb.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "cairn/v1/model.grpc.pb.h"
#include "cairn/v1/queue.grpc.pb.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/review.grpc.pb.h"
#include "cairn/v1/suite.grpc.pb.h"
#include "cairn/v1/tag.grpc.pb.h"
#include "cairn/v1/transfer.grpc.pb.h"
#include "cairn/v1/worker.grpc.pb.h"
#include "core/base/status_util.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "server/testing/in_process_hub.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;
using Ask = std::function<absl::Status(HubChannel&)>;

// A call of `method` with a request in text format.
template <typename Stub, typename Request, typename Response>
Ask Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                      Response*),
         const std::string& text) {
  return [method, text](HubChannel& hub) -> absl::Status {
    Request request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request))
        << text;
    return hub.Call(method, request, {.retry = Retry::kNever}).status();
  };
}

struct BadRequest {
  std::string who;
  Ask ask;
  Code code;
  std::string message;
};

class HubRequestsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    hub_ = new testing::InProcessHub;
    hub_->AddPerson("chief", v1::User::MAINTAINER);
    hub_->AddPerson("alice", v1::User::CONTRIBUTOR);
    hub_->AddPerson("eve", v1::User::READER);
    hub_->AddPerson("rob", v1::User::REVIEWER);
    hub_->AddPerson("worker", v1::User::WORKER);
  }
  static void TearDownTestSuite() {
    delete hub_;
    hub_ = nullptr;
  }

  static void ExpectAll(const std::vector<BadRequest>& cases) {
    for (size_t i = 0; i < cases.size(); ++i) {
      const BadRequest& bad = cases[i];
      absl::Status status = bad.ask(*hub_->Connect(bad.who));
      EXPECT_EQ(status.code(), bad.code)
          << "case " << i << " as " << bad.who << ": " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message))
          << "case " << i;
    }
  }

  static testing::InProcessHub* hub_;
};
testing::InProcessHub* HubRequestsTest::hub_ = nullptr;

using Admin = v1::AdminService::Stub;
using Identity = v1::IdentityService::Stub;
using Models = v1::ModelService::Stub;
using Suites = v1::SuiteService::Stub;
using Releases = v1::ReleaseService::Stub;
using Tags = v1::TagService::Stub;
using Events = v1::EventService::Stub;
using Uploads = v1::UploadService::Stub;
using Contributions = v1::ContributionService::Stub;
using Reviews = v1::ReviewService::Stub;
using Queue = v1::QueueService::Stub;
using Batches = v1::BatchService::Stub;
using Workers = v1::WorkerService::Stub;

TEST_F(HubRequestsTest, StrangersLearnNothing) {
  const std::string m = R"(parent: "models/m")";
  const std::string c = R"(name: "models/m/contributions/c1")";
  ExpectAll({
      {"", Call(&Identity::GetProfile, ""), Code::kUnauthenticated, "token"},
      {"", Call(&Models::ListModels, ""), Code::kUnauthenticated, "token"},
      {"", Call(&Models::GetModel, R"(name: "models/m")"),
       Code::kUnauthenticated, "token"},
      {"", Call(&Suites::ListSuites, m), Code::kUnauthenticated, "token"},
      {"", Call(&Releases::ListReleases, m), Code::kUnauthenticated, "token"},
      {"", Call(&Tags::ListTags, m), Code::kUnauthenticated, "token"},
      {"", Call(&Events::ListEvents, m), Code::kUnauthenticated, "token"},
      {"", Call(&Contributions::ListContributions, m), Code::kUnauthenticated,
       "token"},
      {"", Call(&Contributions::GetContribution, c), Code::kUnauthenticated,
       "token"},
      {"", Call(&Queue::ListQueue, m), Code::kUnauthenticated, "token"},
      {"", Call(&Batches::ListBatches, m), Code::kUnauthenticated, "token"},
      {"", Call(&Uploads::BeginUpload, "size_bytes: 1"), Code::kUnauthenticated,
       "token"},
      {"", Call(&Uploads::FindMissing, ""), Code::kUnauthenticated, "token"},
      {"", Call(&Workers::OpenSession, ""), Code::kUnauthenticated, "token"},
      {"", Call(&Admin::ListUsers, ""), Code::kUnauthenticated, "token"},
      {"", Call(&Admin::Check, ""), Code::kUnauthenticated, "token"},
  });
  auto liar = hub_->ConnectWithToken("not-a-token");
  EXPECT_EQ(Call(&Models::ListModels, "")(*liar).code(),
            Code::kUnauthenticated);
}

TEST_F(HubRequestsTest, RolesComeBeforeExistence) {
  const std::string c = R"(name: "models/m/contributions/c1")";
  const std::string note = R"( note: "x")";
  ExpectAll({
      {"eve", Call(&Models::CreateModel, R"(model_id: "m")"),
       Code::kPermissionDenied, "users/eve is a reader"},
      {"alice", Call(&Models::SetPolicy, R"(name: "models/m")"),
       Code::kPermissionDenied, "users/alice is a contributor"},
      {"rob", Call(&Suites::AddSuite, R"(parent: "models/m" suite_id: "s")"),
       Code::kPermissionDenied, "add suites"},
      {"eve", Call(&Contributions::CreateContribution, R"(parent: "models/m")"),
       Code::kPermissionDenied, "push contributions"},
      {"eve", Call(&Uploads::BeginUpload, "size_bytes: 1"),
       Code::kPermissionDenied, "upload"},
      {"alice", Call(&Reviews::Approve, c), Code::kPermissionDenied, "review"},
      {"eve", Call(&Reviews::Reject, c + note), Code::kPermissionDenied,
       "review"},
      {"eve", Call(&Reviews::GetReview, c), Code::kPermissionDenied, "review"},
      {"rob", Call(&Queue::Hold, c), Code::kPermissionDenied, "queue"},
      {"rob", Call(&Batches::StartBatch, R"(parent: "models/m")"),
       Code::kPermissionDenied, "start batches"},
      {"rob",
       Call(&Tags::SetTag, R"(name: "models/m/tags/x" release: "v1.0.0")"),
       Code::kPermissionDenied, "move tags"},
      {"alice",
       Call(&Tags::Rollback,
            R"(name: "models/m/tags/latest" release: "v1.0.0")" + note),
       Code::kPermissionDenied, "move tags"},
      {"rob",
       Call(&Releases::YankRelease,
            R"(name: "models/m/releases/v1.0.0")" + note),
       Code::kPermissionDenied, "move tags"},
      {"alice", Call(&Releases::RevertContribution, c + note),
       Code::kPermissionDenied, "revert"},
      {"alice",
       Call(&Releases::StartReplay, R"(name: "models/m/releases/v1.0.0")"),
       Code::kPermissionDenied, "replay"},
      {"chief", Call(&Admin::CreateUser, R"(user_id: "x")"),
       Code::kPermissionDenied, "manage users"},
      {"chief", Call(&Admin::CreateToken, R"(user: "users/eve")"),
       Code::kPermissionDenied, "manage users"},
      {"admin", Call(&Reviews::Approve, c), Code::kPermissionDenied, "review"},
      {"admin", Call(&Workers::OpenSession, R"(instance_id: "i")"),
       Code::kPermissionDenied, "lease jobs"},
      {"worker", Call(&Models::ListModels, R"(page_size: -1)"),
       Code::kInvalidArgument, "page_size -1"},
      {"worker",
       Call(&Contributions::ListContributions, R"(parent: "models/m")"),
       Code::kPermissionDenied, "users/worker is a worker"},
      {"eve", Call(&Admin::Check, ""), Code::kPermissionDenied, "check"},
  });
}

TEST_F(HubRequestsTest, WhatIsAbsentIsNamed) {
  ExpectAll({
      {"eve", Call(&Models::GetModel, R"(name: "models/m")"), Code::kNotFound,
       "models/m"},
      {"chief", Call(&Models::SetPolicy, R"(name: "models/m")"),
       Code::kNotFound, "models/m"},
      {"chief", Call(&Suites::AddSuite, R"(parent: "models/m" suite_id: "s")"),
       Code::kNotFound, "models/m"},
      {"eve", Call(&Suites::GetSuite, R"(name: "models/m/suites/s")"),
       Code::kNotFound, "models/m/suites/s"},
      {"eve",
       Call(&Releases::GetRelease, R"(name: "models/m/releases/v9.9.9")"),
       Code::kNotFound, "v9.9.9"},
      {"eve",
       Call(&Releases::GetRelease, R"(name: "models/m/releases/deadbeefdead")"),
       Code::kNotFound, "deadbeefdead"},
      {"eve", Call(&Tags::GetTag, R"(name: "models/m/tags/next")"),
       Code::kNotFound, "models/m/tags/next"},
      {"eve", Call(&Events::ListEvents, R"(parent: "models/m")"),
       Code::kNotFound, "models/m"},
      {"eve",
       Call(&Contributions::GetContribution,
            R"(name: "models/m/contributions/c1")"),
       Code::kNotFound, "models/m/contributions/c1"},
      {"alice", Call(&Uploads::GetUpload, R"(name: "uploads/absent")"),
       Code::kNotFound, "uploads/absent"},
      {"eve", Call(&Batches::GetBatch, R"(name: "models/m/batches/b1")"),
       Code::kNotFound, "models/m/batches/b1"},
      {"admin", Call(&Admin::CreateToken, R"(user: "users/nobody")"),
       Code::kNotFound, "users/nobody"},
      {"worker", Call(&Workers::LeaseJob, R"(session: "sessions/s")"),
       Code::kNotFound, "sessions/s"},
  });
}

TEST_F(HubRequestsTest, MalformedModelsAndSuitesAreNamed) {
  const std::string long_id(200, 'x');
  ExpectAll({
      {"eve", Call(&Models::GetModel, ""), Code::kInvalidArgument, "models/"},
      {"eve", Call(&Models::GetModel, R"(name: "models/../m")"),
       Code::kInvalidArgument, "models/../m"},
      {"eve", Call(&Models::GetModel, R"(name: "models/)" + long_id + R"(")"),
       Code::kInvalidArgument, "xxx"},
      {"eve", Call(&Models::ListModels, R"(page_token: "%%")"),
       Code::kInvalidArgument, "page_token"},
      {"chief", Call(&Models::CreateModel, R"(model_id: "A B")"),
       Code::kInvalidArgument, "model_id 'A B'"},
      {"chief", Call(&Models::CreateModel, R"(model_id: "m" license: "a b")"),
       Code::kInvalidArgument, "license 'a b'"},
      {"chief", Call(&Models::CreateModel, R"(model_id: "m")"),
       Code::kInvalidArgument, "model.safetensors: is missing"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" files { file { path: "x.py" } segments: "zz" })"),
       Code::kInvalidArgument, "x.py"},
      {"chief",
       Call(&Suites::AddSuite, R"(parent: "models/m" suite_id: "../s")"),
       Code::kInvalidArgument, "suite_id '../s'"},
      {"chief",
       Call(&Suites::AddSuite,
            R"(parent: "models/m" suite_id: "s" margin: -0.1)"),
       Code::kInvalidArgument, "margin -0.1"},
  });
}

TEST_F(HubRequestsTest, PolicyKeysThatMakeNoSenseAreNamed) {
  ExpectAll({
      {"chief",
       Call(&Models::CreateModel, R"(model_id: "m" policy { alpha: 0.9 })"),
       Code::kInvalidArgument, "alpha is 0.9"},
      {"chief",
       Call(&Models::CreateModel, R"(model_id: "m" policy { alpha: nan })"),
       Code::kInvalidArgument, "alpha"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { strategy: "magic" })"),
       Code::kInvalidArgument, "strategy is 'magic'"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { lambda_grid: -1 })"),
       Code::kInvalidArgument, "lambda_grid is -1"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { review_if: "always" })"),
       Code::kInvalidArgument, "review_if is 'always'"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { eval_dtype: "int8" })"),
       Code::kInvalidArgument, "eval_dtype is 'int8'"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { confirmations: 3 })"),
       Code::kInvalidArgument, "confirmations is 3"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { default_license: "WTFPL" })"),
       Code::kInvalidArgument, "default_license is 'WTFPL'"},
      {"chief",
       Call(&Models::CreateModel,
            R"(model_id: "m" policy { batch { count: -1 } })"),
       Code::kInvalidArgument, "batch.count is -1"},
  });
}

TEST_F(HubRequestsTest, MalformedTagsReleasesAndEventsAreNamed) {
  ExpectAll({
      {"chief", Call(&Tags::SetTag, R"(name: "models/m/tags/v1.0.0")"),
       Code::kInvalidArgument, "looks like a version"},
      {"chief", Call(&Tags::SetTag, R"(name: "models/m/tags/a b")"),
       Code::kInvalidArgument, "a b"},
      {"chief",
       Call(&Tags::Rollback,
            R"(name: "models/m/tags/latest" release: "v1.0.0")"),
       Code::kInvalidArgument, "note is empty"},
      {"chief",
       Call(&Releases::YankRelease, R"(name: "models/m/releases/v1.0.0")"),
       Code::kInvalidArgument, "note is empty"},
      {"chief",
       Call(&Releases::RevertContribution,
            R"(name: "models/m/contributions/c1")"),
       Code::kInvalidArgument, "note is empty"},
      {"eve", Call(&Releases::GetRelease, R"(name: "v1.0.0")"),
       Code::kInvalidArgument, "v1.0.0"},
      {"eve",
       Call(&Releases::MatchRelease, R"(parent: "models/m" digest: "12")"),
       Code::kInvalidArgument, "12"},
      {"eve", Call(&Events::ListEvents, R"(parent: "m")"),
       Code::kInvalidArgument, "m"},
  });
}

TEST_F(HubRequestsTest, MalformedUploadsAndPeopleAreNamed) {
  ExpectAll({
      {"alice", Call(&Contributions::GetContribution, R"(name: "c1")"),
       Code::kInvalidArgument, "c1"},
      {"alice", Call(&Uploads::BeginUpload, "size_bytes: -1"),
       Code::kInvalidArgument, "size_bytes"},
      {"alice", Call(&Uploads::BeginUpload, R"(size_bytes: 1 sha256: "xyz")"),
       Code::kInvalidArgument, "xyz"},
      {"alice", Call(&Uploads::FindMissing, R"(sha256: "xyz")"),
       Code::kInvalidArgument, "xyz"},
      {"alice",
       Call(&Uploads::BatchUpload, R"(items { sha256: "xyz" data: "a" })"),
       Code::kInvalidArgument, "xyz"},
      {"alice", Call(&Uploads::GetUpload, R"(name: "u")"),
       Code::kInvalidArgument, "u"},
      {"admin", Call(&Admin::CreateUser, R"(user_id: "Ada")"),
       Code::kInvalidArgument, "user_id 'Ada'"},
      {"admin", Call(&Admin::CreateUser, R"(user_id: "ada")"),
       Code::kInvalidArgument, "user.role"},
      {"admin",
       Call(&Admin::CreateUser,
            R"(user_id: "ada" user { role: READER trust: "merge" })"),
       Code::kInvalidArgument, "user.trust"},
      {"admin",
       Call(&Admin::CreateToken, R"(user: "users/eve" ttl { seconds: -1 })"),
       Code::kInvalidArgument, "ttl"},
      {"admin", Call(&Admin::CreateToken, R"(user: "eve")"),
       Code::kInvalidArgument, "eve"},
      {"eve", Call(&Identity::RegisterKey, R"(public_key: "00" proof: "00")"),
       Code::kInvalidArgument, "proof of possession"},
  });
}

TEST_F(HubRequestsTest, RefusedRequestsLeftNothing) {
  auto chief = hub_->Connect("chief");
  auto models = chief->Call(&Models::ListModels, v1::ListModelsRequest());
  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_EQ(models->items_size(), 0);
  auto check = chief->Call(&Admin::Check, v1::CheckRequest());
  ASSERT_TRUE(check.ok()) << check.status();
  EXPECT_EQ(check->problems_size(), 0) << check->ShortDebugString();
}

}  // namespace
}  // namespace cairn
