#include "server/jobs/job_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/flow/contribution_state.h"
#include "server/testing/pipeline_fixture.h"

namespace cairn {
namespace {

using store::v1::JobRecord;
using ::testing::HasSubstr;
using testing::Pipeline;
using ::testing::SizeIs;

class JobQueueTest : public ::testing::Test {
 protected:
  // An evaluation of the head on a suite of two files.
  std::string AddJob(std::vector<std::string> excluded = {}) {
    std::string name;
    EXPECT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
      CAIRN_ASSIGN_OR_RETURN(auto head, t.Head(testing::kModel));
      JobRequest request{.model = testing::kModel, .subject = "models/m"};
      v1::EvaluateSpec& spec = *request.spec.mutable_evaluate();
      *spec.mutable_base() = MakeModelInput(head);
      v1::SuiteInput& suite = *spec.add_suites();
      suite.set_suite("models/m/suites/s");
      suite.set_version(1);
      suite.add_splits("gate");
      suite.add_files()->set_sha256("5u17e");
      spec.mutable_update()->add_files()->set_sha256("0pda7e");
      spec.set_dtype("float32");
      request.excluded_instances = excluded;
      CAIRN_ASSIGN_OR_RETURN(name, EnqueueJob(t, request));
      return absl::OkStatus();
    }));
    return name;
  }

  std::string OpenSession(const std::string& instance,
                          const std::string& device = "cpu-test") {
    v1::OpenSessionRequest request;
    request.set_instance_id(instance);
    request.set_device_class(device);
    request.add_kinds("evaluate");
    request.add_kinds("merge");
    return hub_.jobs().OpenSession(hub_.worker(), request)->name();
  }
  v1::Lease Lease(const std::string& session) {
    auto response = hub_.jobs().Lease(hub_.worker(), session);
    EXPECT_OK(response.status());
    return response.ok() ? response->lease() : v1::Lease();
  }
  v1::Lease Lease() { return Lease(hub_.session()); }

  v1::CompleteJobRequest Done(const v1::Lease& lease,
                              const std::string& session) {
    v1::JobResult result;
    result.set_device_class("cpu-test");
    result.mutable_evaluate();
    v1::CompleteJobRequest request;
    request.set_session(session);
    request.set_job(lease.job());
    request.set_fencing_token(lease.fencing_token());
    request.set_result_sha256(
        hub_.blobs().Put(result.SerializeAsString())->hex());
    return request;
  }
  v1::CompleteJobRequest Failed(const v1::Lease& lease,
                                v1::JobFailure::Cause cause) {
    v1::CompleteJobRequest request;
    request.set_session(hub_.session());
    request.set_job(lease.job());
    request.set_fencing_token(lease.fencing_token());
    request.mutable_failure()->set_cause(cause);
    request.mutable_failure()->mutable_reason()->set_message("it broke");
    return request;
  }
  JobRecord Job(const std::string& name) { return hub_.Get<JobRecord>(name); }
  absl::Status Complete(const v1::CompleteJobRequest& request) {
    return hub_.jobs().Complete(hub_.worker(), request);
  }

  Pipeline hub_;
};

TEST_F(JobQueueTest, LeasesInOrderAndCompletes) {
  const std::string first = AddJob(), second = AddJob();
  v1::Lease lease = Lease();
  EXPECT_EQ(lease.job(), first);
  EXPECT_EQ(lease.attempt(), 1);
  EXPECT_TRUE(lease.spec().evaluate().suites(0).score_base());
  ASSERT_OK(Complete(Done(lease, hub_.session())));
  EXPECT_EQ(Job(first).state(), JobRecord::DONE);
  EXPECT_EQ(Job(first).completed_by(), "instance");
  EXPECT_EQ(Lease().job(), second);
}

TEST_F(JobQueueTest, DeltasComeAfterEverythingElse) {
  std::string delta;
  EXPECT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
    JobRequest request{.model = testing::kModel, .subject = "models/m"};
    request.spec.mutable_delta()->mutable_from()->set_tensor_manifest_sha256(
        "f20m");
    request.spec.mutable_delta()
        ->add_merges()
        ->add_members()
        ->mutable_update()
        ->add_files()
        ->set_sha256("ada97e4");
    CAIRN_ASSIGN_OR_RETURN(delta, EnqueueJob(t, request));
    return absl::OkStatus();
  }));
  const std::string job = AddJob();
  v1::Lease lease = Lease();
  EXPECT_EQ(lease.job(), job);
  ASSERT_OK(Complete(Done(lease, hub_.session())));
  lease = Lease();
  EXPECT_EQ(lease.job(), delta);
  v1::LeasedBlob blob;
  blob.set_job(delta);
  blob.set_fencing_token(lease.fencing_token());
  blob.set_sha256("f20m");
  EXPECT_OK(hub_.jobs().CheckLeasedBlob(hub_.worker(), blob));
  blob.set_sha256("ada97e4");
  EXPECT_OK(hub_.jobs().CheckLeasedBlob(hub_.worker(), blob));
  EXPECT_EQ(Complete(Done(lease, hub_.session())).code(),
            absl::StatusCode::kInvalidArgument)
      << "an evaluation is no answer to a delta";
}

TEST_F(JobQueueTest, NothingToDoIsAnEmptyLease) {
  EXPECT_EQ(Lease().job(), "");
}

TEST_F(JobQueueTest, RepeatedCompletionIsSuccess) {
  AddJob();
  v1::Lease lease = Lease();
  ASSERT_OK(Complete(Done(lease, hub_.session())));
  EXPECT_OK(Complete(Done(lease, hub_.session())));
}

TEST_F(JobQueueTest, StaleWorkerCannotCommit) {
  const std::string job = AddJob();
  const std::string slow = hub_.session();
  v1::Lease stale = Lease();
  ASSERT_EQ(hub_.jobs().RunPass().value(), 0);
  hub_.clock().Advance(absl::Seconds(61));
  ASSERT_EQ(hub_.jobs().RunPass().value(), 1);
  const std::string other = OpenSession("elsewhere");
  v1::Lease fresh = Lease(other);
  EXPECT_GT(fresh.fencing_token(), stale.fencing_token());
  EXPECT_EQ(fresh.attempt(), 2);
  EXPECT_EQ(Complete(Done(stale, slow)).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Job(job).state(), JobRecord::LEASED);
  EXPECT_OK(Complete(Done(fresh, other)));
}

TEST_F(JobQueueTest, HeartbeatsKeepALease) {
  const std::string job = AddJob();
  v1::Lease lease = Lease();
  v1::HeartbeatRequest beat;
  beat.set_session(hub_.session());
  beat.set_job(job);
  beat.set_fencing_token(lease.fencing_token());
  for (int i = 0; i < 10; ++i) {
    hub_.clock().Advance(absl::Seconds(50));
    auto answer = hub_.jobs().Heartbeat(hub_.worker(), beat);
    ASSERT_OK(answer.status());
    EXPECT_FALSE(answer->cancelled());
    EXPECT_EQ(hub_.jobs().RunPass().value(), 0);
  }
  beat.set_fencing_token(lease.fencing_token() - 1);
  EXPECT_TRUE(hub_.jobs().Heartbeat(hub_.worker(), beat)->cancelled());
}

TEST_F(JobQueueTest, CancelledJobTellsItsWorker) {
  const std::string job = AddJob();
  v1::Lease lease = Lease();
  ASSERT_OK(hub_.store().Transact(
      [&](HubTransaction& t) { return CancelJob(t, job, "withdrawn"); }));
  v1::HeartbeatRequest beat;
  beat.set_session(hub_.session());
  beat.set_job(job);
  beat.set_fencing_token(lease.fencing_token());
  EXPECT_TRUE(hub_.jobs().Heartbeat(hub_.worker(), beat)->cancelled());
  EXPECT_EQ(Complete(Done(lease, hub_.session())).code(),
            absl::StatusCode::kAborted);
}

TEST_F(JobQueueTest, RestartGivesEveryLeaseOneMoreTtl) {
  const std::string job = AddJob();
  const std::string session = hub_.session();
  v1::Lease lease = Lease();
  hub_.clock().Advance(absl::Seconds(59));
  // A hub process that starts anew while the worker lives on.
  JobQueue restarted(hub_.store(), hub_.blobs(), hub_.clock());
  hub_.clock().Advance(absl::Seconds(30));
  EXPECT_EQ(restarted.RunPass().value(), 0);
  hub_.clock().Advance(absl::Seconds(30));
  EXPECT_EQ(restarted.RunPass().value(), 0);
  EXPECT_OK(restarted.Complete(hub_.worker(), Done(lease, session)));
  EXPECT_EQ(Job(job).state(), JobRecord::DONE);
}

TEST_F(JobQueueTest, NewSessionOfAnInstanceFreesItsLeasesAtNoCost) {
  const std::string job = AddJob();
  for (int i = 0; i < 10; ++i) {
    const std::string session = OpenSession("instance");
    v1::Lease lease = Lease(session);
    EXPECT_EQ(lease.job(), job);
    EXPECT_EQ(lease.attempt(), 1);
  }
}

TEST_F(JobQueueTest, AskingAgainGivesTheLostLeaseAgain) {
  const std::string job = AddJob();
  v1::Lease lost = Lease();
  AddJob();
  v1::Lease again = Lease();
  EXPECT_EQ(again.job(), job);
  EXPECT_EQ(again.fencing_token(), lost.fencing_token() + 1);
  EXPECT_EQ(again.attempt(), 1);
}

TEST_F(JobQueueTest, LostLeaseIsGivenAgainThoughNothingElseWaits) {
  const std::string job = AddJob();
  Lease();
  EXPECT_EQ(Lease().job(), job);
}

TEST_F(JobQueueTest, ThreeSilentWorkersEndAJob) {
  const std::string job = AddJob();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Lease().attempt(), i + 1);
    hub_.jobs().RunPass().value();
    hub_.clock().Advance(absl::Seconds(61));
    EXPECT_EQ(hub_.jobs().RunPass().value(), 1);
  }
  EXPECT_EQ(Job(job).state(), JobRecord::FAILED);
  EXPECT_EQ(Job(job).failure().code(), v1::Reason::EVALUATION_FAILED);
  EXPECT_EQ(Lease().job(), "");
}

TEST_F(JobQueueTest, BadInputEndsAJobAtOnce) {
  const std::string job = AddJob();
  ASSERT_OK(Complete(Failed(Lease(), v1::JobFailure::INPUT)));
  EXPECT_EQ(Job(job).state(), JobRecord::FAILED);
  EXPECT_EQ(Job(job).failure().message(), "it broke");
}

TEST_F(JobQueueTest, CrashIsTriedOnAnotherWorkerFirst) {
  const std::string job = AddJob();
  ASSERT_OK(Complete(Failed(Lease(), v1::JobFailure::CRASH)));
  const std::string other = OpenSession("elsewhere");
  EXPECT_EQ(Lease().job(), "") << "the other worker is to try it";
  EXPECT_EQ(Lease(other).job(), job);
}

TEST_F(JobQueueTest, TrustAndKindsDecideWhatIsLeased) {
  const std::string job = AddJob();
  Caller merger = hub_.worker();
  merger.user = "users/merger";
  merger.trust = {"merge"};
  v1::OpenSessionRequest request;
  request.set_instance_id("m");
  request.set_device_class("cpu-test");
  request.add_kinds("evaluate");
  request.add_kinds("merge");
  const std::string session = hub_.jobs().OpenSession(merger, request)->name();
  EXPECT_FALSE(hub_.jobs().Lease(merger, session)->has_lease());
  EXPECT_EQ(Lease().job(), job);
}

TEST_F(JobQueueTest, ExcludedInstanceDoesNotGetTheJob) {
  const std::string job = AddJob({"instance"});
  EXPECT_EQ(Lease().job(), "");
  EXPECT_EQ(Lease(OpenSession("elsewhere")).job(), job);
}

TEST_F(JobQueueTest, AnotherUsersSessionIsUnknown) {
  AddJob();
  Caller other = hub_.worker();
  other.user = "users/eve";
  EXPECT_EQ(hub_.jobs().Lease(other, hub_.session()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(hub_.jobs().Lease(hub_.worker(), "sessions/x").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(JobQueueTest, ResultMustAnswerTheQuestion) {
  AddJob();
  v1::Lease lease = Lease();
  auto refuse = [&](const v1::JobResult& result, const char* word) {
    v1::CompleteJobRequest request = Done(lease, hub_.session());
    request.set_result_sha256(
        hub_.blobs().Put(result.SerializeAsString())->hex());
    const absl::Status status = Complete(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(word));
  };
  v1::JobResult result;
  result.set_device_class("cpu-test");
  refuse(result, "does not answer");
  result.mutable_merge();
  refuse(result, "does not answer");
  result.mutable_evaluate();
  result.set_device_class("gpu");
  refuse(result, "device class 'gpu'");
  v1::CompleteJobRequest request = Done(lease, hub_.session());
  request.set_result_sha256(Digest::Of("never uploaded").hex());
  EXPECT_THAT(std::string(Complete(request).message()),
              HasSubstr("must name an uploaded JobResult"));
  request.clear_result_sha256();
  EXPECT_THAT(std::string(Complete(request).message()),
              HasSubstr("exactly one"));
  EXPECT_OK(Complete(Done(lease, hub_.session())));
}

TEST_F(JobQueueTest, LeaseNamesWhatItsWorkerMayRead) {
  AddJob();
  v1::Lease lease = Lease();
  auto check = [&](const Caller& caller, int64_t token, const char* sha256) {
    v1::LeasedBlob blob;
    blob.set_job(lease.job());
    blob.set_fencing_token(token);
    blob.set_sha256(sha256);
    return hub_.jobs().CheckLeasedBlob(caller, blob);
  };
  const int64_t token = lease.fencing_token();
  EXPECT_OK(check(hub_.worker(), token, "5u17e"));
  EXPECT_OK(check(hub_.worker(), token, "0pda7e"));
  const auto denied = absl::StatusCode::kPermissionDenied;
  EXPECT_EQ(check(hub_.worker(), token, "other").code(), denied);
  EXPECT_EQ(check(hub_.worker(), token + 1, "5u17e").code(), denied);
  Caller other = hub_.worker();
  other.user = "users/eve";
  EXPECT_EQ(check(other, token, "5u17e").code(), denied);
  ASSERT_OK(Complete(Done(lease, hub_.session())));
  EXPECT_EQ(check(hub_.worker(), token, "5u17e").code(), denied)
      << "the lease is over";
}

TEST_F(JobQueueTest, LeaseOfACandidateNamesItsTensors) {
  v1::TensorManifest tensors;
  tensors.add_tensors()->set_sha256("7e4504");
  tensors.add_tensors()->set_sha256("1e4504");
  const std::string manifest =
      hub_.blobs().Put(tensors.SerializeAsString())->hex();
  ASSERT_OK(hub_.store().Transact([&](HubTransaction& t) {
    JobRequest request{.model = testing::kModel, .subject = "models/m"};
    auto& candidate =
        *request.spec.mutable_evaluate()->mutable_base()->mutable_candidate();
    candidate.set_tensor_manifest_sha256(manifest);
    return EnqueueJob(t, request).status();
  }));
  v1::Lease lease = Lease();
  v1::LeasedBlob blob;
  blob.set_job(lease.job());
  blob.set_fencing_token(lease.fencing_token());
  for (const std::string& sha256 :
       {manifest, std::string("7e4504"), std::string("1e4504")}) {
    blob.set_sha256(sha256);
    EXPECT_OK(hub_.jobs().CheckLeasedBlob(hub_.worker(), blob));
  }
  blob.set_sha256("9e4504");
  EXPECT_EQ(hub_.jobs().CheckLeasedBlob(hub_.worker(), blob).code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(JobQueueTest, MissingWorkersAreTold) {
  const std::string name = AddJob();
  EXPECT_EQ(WaitingFor(hub_.jobs(), Job(name)), "");
  hub_.clock().Advance(absl::Minutes(2));
  EXPECT_THAT(WaitingFor(hub_.jobs(), Job(name)), HasSubstr("'evaluate'"));
  Lease();
  EXPECT_EQ(WaitingFor(hub_.jobs(), Job(name)), "");
}

TEST_F(JobQueueTest, RefusesSessionsWithoutAnIdentity) {
  v1::OpenSessionRequest request;
  request.set_device_class("cpu");
  EXPECT_EQ(hub_.jobs().OpenSession(hub_.worker(), request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.set_instance_id("i");
  request.clear_device_class();
  EXPECT_EQ(hub_.jobs().OpenSession(hub_.worker(), request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.set_device_class("cpu");
  request.add_kinds("train");
  EXPECT_THAT(
      std::string(
          hub_.jobs().OpenSession(hub_.worker(), request).status().message()),
      HasSubstr("'train'"));
}

TEST_F(JobQueueTest, OldSessionsAreForgotten) {
  hub_.clock().Advance(absl::Hours(25));
  EXPECT_EQ(hub_.jobs().RunPass().value(), 1);
  EXPECT_THAT(*hub_.store().Read().ListAll<store::v1::SessionRecord>(""),
              SizeIs(0));
}

TEST_F(JobQueueTest, JobsLongOverAreForgotten) {
  const std::string done = AddJob();
  ASSERT_OK(Complete(Done(Lease(), hub_.session())));
  const std::string open = AddJob();
  hub_.clock().Advance(absl::Hours(24 * 31));
  OpenSession("instance");
  EXPECT_EQ(hub_.jobs().RunPass().value(), 1);
  EXPECT_FALSE(hub_.store().Read().Find<JobRecord>(done)->has_value());
  EXPECT_EQ(Job(open).state(), JobRecord::PENDING);
}

}  // namespace
}  // namespace cairn
