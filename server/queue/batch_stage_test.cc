#include "server/queue/batch_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/flow/contribution_state.h"
#include "server/gate/contribution_view.h"
#include "server/gate/holdout.h"
#include "server/queue/batch_service.h"
#include "server/queue/hub_line_service.h"
#include "server/testing/pipeline_fixture.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::ReleaseRecord;
using store::v1::TagRecord;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Pipeline;
using ::testing::SizeIs;

Caller Maintainer() {
  return {.user = "users/chief", .role = v1::User::MAINTAINER};
}

class BatchStageTest : public ::testing::Test {
 protected:
  BatchStageTest() {
    hub_.AddSuite("prose", /*is_protected=*/true);
    hub_.AddSuite("c");
    // Everything helps on c unless it is bad.
    hub_.effect = [this](const std::set<std::string>& merged,
                         const std::string& suite) {
      double gain = 0;
      for (const std::string& name : merged) {
        if (name.starts_with("lambda=")) continue;
        if (bad_.contains(name)) {
          gain -= suite == "prose" ? 0.10 : 0.0;
        } else if (suite == "c") {
          gain += 0.02;
        }
      }
      for (const auto& [a, b] : bad_pairs_) {
        if (merged.contains(a) && merged.contains(b) && suite == "prose") {
          gain -= 0.10;
        }
      }
      // The search likes 0.4 best.
      if (merged.contains("lambda=0.4")) gain += 0.005;
      if (merged.contains("lambda=1")) gain -= 0.01;
      return gain;
    };
  }

  v1::Batch Start(const std::string& strategy = "average") {
    v1::StartBatchRequest request;
    request.set_parent(testing::kModel);
    request.set_strategy(strategy);
    auto started =
        BatchService(hub_.store(), hub_.jobs()).Start(Maintainer(), request);
    EXPECT_OK(started.status());
    return started.value_or(v1::Batch());
  }

  void Settle() {
    BatchStage stage(hub_.store(), hub_.blobs(), hub_.publisher());
    hub_.RunAll({&stage});
  }

  v1::Batch Revert(const std::string& id) {
    v1::RevertContributionRequest request;
    request.set_name(std::string(testing::kModel) + "/contributions/" + id);
    request.set_note("licence withdrawn");
    auto batch = HubLineService(hub_.store(), hub_.jobs())
                     .RevertContribution(Maintainer(), request);
    EXPECT_OK(batch.status());
    return batch.value_or(v1::Batch());
  }

  void Merge(const std::string& id) {
    hub_.AddContribution(id, v1::Contribution::QUEUED, {"c"});
    Start();
    Settle();
    ASSERT_EQ(hub_.State(id), "RELEASED");
  }

  std::vector<std::string> VerdictCodes(const std::string& id) {
    std::vector<std::string> codes;
    const v1::Contribution contribution = hub_.Contribution(id);
    for (const auto& verdict : contribution.verdicts()) {
      for (const auto& reason : verdict.reasons()) {
        codes.push_back(v1::Reason::Code_Name(reason.code()));
      }
    }
    return codes;
  }

  Pipeline hub_;
  std::set<std::string> bad_;
  std::set<std::pair<std::string, std::string>> bad_pairs_;
};

TEST_F(BatchStageTest, GoodContributionsBecomeARelease) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  EXPECT_EQ(hub_.State("b"), "RELEASED");
  EXPECT_EQ(hub_.Head(), "v1.1.0");
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::PUBLISHED);
  ASSERT_THAT(hub_.publisher().published, SizeIs(1));
  const Publication& publication = hub_.publisher().published[0];
  EXPECT_THAT(publication.reports, SizeIs(2));
  EXPECT_EQ(publication.reports[0].split(), "audit");
  EXPECT_EQ(publication.origin, ReleaseRecord::MERGED);
  EXPECT_THAT(publication.contributions, SizeIs(2));
  EXPECT_EQ(hub_.Contribution("a").release(), "models/m/releases/v1.1.0");
}

TEST_F(BatchStageTest, LambdaIsChosenOnTheSearchSplit) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start("task_arithmetic");
  Settle();
  const v1::Batch batch = hub_.LastBatch();
  EXPECT_EQ(batch.state(), v1::Batch::PUBLISHED);
  EXPECT_EQ(batch.parameters().at("lambda"), "0.4");
  EXPECT_EQ(batch.search_size(), 3);
}

TEST_F(BatchStageTest, CulpritIsRejectedAndTheOthersAreReleased) {
  bad_ = {"b"};
  for (const char* id : {"a", "b", "c", "d"}) {
    hub_.AddContribution(id, v1::Contribution::QUEUED, {"c"});
  }
  Start();
  Settle();
  EXPECT_EQ(hub_.State("b"), "REJECTED");
  EXPECT_THAT(VerdictCodes("b"),
              ElementsAre("BATCH_CULPRIT", "SUITE_REGRESSED", "NO_GAIN"));
  for (const char* id : {"a", "c", "d"}) EXPECT_EQ(hub_.State(id), "RELEASED");
  EXPECT_EQ(hub_.Get<ReleaseRecord>("models/m/releases/v1.1.0")
                .release()
                .contributions_size(),
            3);
  EXPECT_FALSE(hub_.LastBatch().bisection().empty());
}

TEST_F(BatchStageTest, WhatTheGateSaidOfAMergeIsChargedToItsMembers) {
  bad_ = {"b"};
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"}, "users/alice");
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"}, "users/bob");
  Start();
  Settle();
  ASSERT_EQ(hub_.State("b"), "REJECTED");
  for (const char* suite : {"prose", "c"}) {
    const auto about = hub_.Get<store::v1::SuiteRecord>(
        absl::StrCat("models/m/suites/", suite, "/1"));
    const HubSnapshot snapshot = hub_.store().Read();
    const auto alice = *FindHoldout(snapshot, about.suite(), "users/alice");
    const auto bob = *FindHoldout(snapshot, about.suite(), "users/bob");
    // Both together; then each alone, and the one that failed again.
    EXPECT_EQ(alice.merges_failed(), 1) << suite;
    EXPECT_EQ(alice.merges_passed(), 1) << suite;
    EXPECT_EQ(bob.merges_failed(), 3) << suite;
    EXPECT_EQ(bob.merges_passed(), 0) << suite;
    EXPECT_GT(ToldNats(bob), ToldNats(alice)) << suite;
  }
}

TEST_F(BatchStageTest, OthersReadWhichMergesPassedAndNotWhy) {
  bad_ = {"a"};
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  const auto batch = hub_.Get<store::v1::BatchRecord>(hub_.LastBatch().name());
  ASSERT_FALSE(batch.batch().reasons().empty());
  const auto exact =
      *ViewBatch(hub_.store().Read(), hub_.jobs(), batch, Figures::kExact);
  EXPECT_EQ(exact.reasons(0).suite(), "models/m/suites/prose");
  const auto view =
      *ViewBatch(hub_.store().Read(), hub_.jobs(), batch, Figures::kRounded);
  EXPECT_EQ(view.reasons_size(), exact.reasons_size());
  EXPECT_EQ(view.reasons(0).code(), exact.reasons(0).code());
  EXPECT_EQ(view.bisection(0), "a: fails");
  for (const v1::Reason& reason : view.reasons()) {
    EXPECT_EQ(reason.suite(), "");
    EXPECT_THAT(reason.message(), Not(HasSubstr("prose")));
  }
  for (const std::string& step : view.bisection()) {
    EXPECT_THAT(step, Not(HasSubstr("prose")));
  }
}

TEST_F(BatchStageTest, PairThatFailsTogetherIsSplitAndTheLaterHeld) {
  bad_pairs_ = {{"a", "b"}};
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  EXPECT_EQ(hub_.State("b"), "QUEUED");
  EXPECT_TRUE(hub_.Contribution("b").held());
}

TEST_F(BatchStageTest, WhatGainsNothingGoesToReviewers) {
  hub_.effect = [](const auto&, const auto&) { return 0.0; };
  hub_.AddContribution("a");
  Start("task_arithmetic");
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_THAT(VerdictCodes("a"), Contains("NO_GAIN"));
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::FAILED);
  EXPECT_EQ(hub_.Head(), "v1.0.0");
}

TEST_F(BatchStageTest, AuditStopsWhatOnlyTheGateLiked) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  BatchStage stage(hub_.store(), hub_.blobs(), hub_.publisher());
  // Spoil prose for the audit job alone.
  hub_.failure = [&](const v1::JobSpec& spec) {
    const bool is_audit = spec.has_evaluate() &&
                          spec.evaluate().suites_size() > 0 &&
                          spec.evaluate().suites(0).splits(0) == "audit";
    if (is_audit) bad_ = {"a"};
    return std::optional<v1::JobFailure>();
  };
  hub_.RunAll({&stage});
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_EQ(hub_.Head(), "v1.0.0");
  EXPECT_THAT(VerdictCodes("a"), Contains("SUITE_REGRESSED"));
  // Reviewers see which suite; members do not.
  EXPECT_NE(hub_.LastBatch().reasons(0).suite(), "");
  const v1::Contribution a = hub_.Contribution("a");
  for (const v1::Verdict& verdict : a.verdicts()) {
    for (const auto& reason : verdict.reasons()) EXPECT_EQ(reason.suite(), "");
  }
}

TEST_F(BatchStageTest, GivenUpJobsPutMembersBackOnHold) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  hub_.failure = [](const v1::JobSpec&) {
    v1::JobFailure failure;
    failure.set_cause(v1::JobFailure::WORKER);
    failure.mutable_reason()->set_message("the disk is full");
    return std::optional(failure);
  };
  Settle();
  EXPECT_EQ(hub_.State("a"), "QUEUED");
  EXPECT_TRUE(hub_.Contribution("a").held());
  EXPECT_THAT(hub_.LastBatch().reasons(0).message(),
              HasSubstr("the disk is full"));
  EXPECT_THAT(hub_.jobs_done, SizeIs(3)) << "three attempts";
}

TEST_F(BatchStageTest, ScoresOfOtherWeightsPublishNothing) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  hub_.tamper = [](const v1::JobSpec& spec, v1::JobResult& result) {
    if (spec.has_evaluate()) {
      result.mutable_evaluate()->set_candidate_digest("sha256:other");
    }
  };
  Settle();
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::FAILED);
  EXPECT_THAT(hub_.LastBatch().reasons(0).message(), HasSubstr("sha256:other"));
  EXPECT_EQ(hub_.Head(), "v1.0.0");
  EXPECT_TRUE(hub_.Contribution("a").held());
}

TEST_F(BatchStageTest, MergeWithoutItsBytesPublishesNothing) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  hub_.tamper = [&](const v1::JobSpec& spec, v1::JobResult& result) {
    if (!spec.has_merge()) return;
    auto tensors = *ReadTensorManifest(hub_.blobs(),
                                       result.merge().tensor_manifest_sha256());
    tensors.mutable_tensors(0)->set_sha256(Digest::Of("never sent").hex());
    result.mutable_merge()->set_tensor_manifest_sha256(
        hub_.blobs().Put(tensors.SerializeAsString())->hex());
  };
  Settle();
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::FAILED);
  EXPECT_THAT(hub_.LastBatch().reasons(0).message(),
              HasSubstr("were not uploaded"));
  EXPECT_EQ(hub_.Head(), "v1.0.0");
}

TEST_F(BatchStageTest, MergeWithAnotherDigestThanItSaysPublishesNothing) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  hub_.tamper = [&](const v1::JobSpec& spec, v1::JobResult& result) {
    if (spec.has_merge()) result.mutable_merge()->set_digest("sha256:other");
  };
  Settle();
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::FAILED);
  EXPECT_EQ(hub_.Head(), "v1.0.0");
}

TEST_F(BatchStageTest, BeginsAgainWhenTheHeadMoved) {
  Merge("a");
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  Start();
  BatchStage stage(hub_.store(), hub_.blobs(), hub_.publisher());
  while (!hub_.Get<BatchRecord>(hub_.LastBatch().name()).gated()) {
    ASSERT_OK(stage.RunPass().status());
    hub_.WorkOnce();
  }
  ASSERT_OK(hub_.store().Transact([](HubTransaction& transaction) {
    auto tag = *transaction.Get<TagRecord>("models/m/tags/latest");
    tag.mutable_tag()->set_release("models/m/releases/v1.0.0");
    return transaction.Put(tag);
  }));
  Settle();
  EXPECT_EQ(hub_.State("b"), "RELEASED");
  const auto release = hub_.Get<ReleaseRecord>("models/m/releases/v1.2.0");
  EXPECT_EQ(release.release().parent(), "models/m/releases/v1.0.0");
  EXPECT_EQ(release.release().contributions_size(), 1);
}

TEST_F(BatchStageTest, RevertOfTheLastGoesBackByteForByte) {
  Merge("a");
  Merge("b");
  const std::string before =
      hub_.Get<ReleaseRecord>("models/m/releases/v1.1.0").release().digest();
  Revert("b");
  Settle();
  EXPECT_EQ(hub_.State("b"), "REVERTED");
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  const ReleaseRecord head = *hub_.store().Read().Head(testing::kModel);
  EXPECT_EQ(head.release().digest(), before);
  EXPECT_EQ(head.origin(), ReleaseRecord::REVERTED);
  EXPECT_THAT(head.release().contributions(),
              ElementsAre("models/m/contributions/a"));
}

TEST_F(BatchStageTest, RevertOfTheFirstRepeatsWhatCameAfter) {
  Merge("a");
  Merge("b");
  Revert("a");
  Settle();
  const ReleaseRecord head = *hub_.store().Read().Head(testing::kModel);
  EXPECT_EQ(hub_.State("a"), "REVERTED");
  EXPECT_THAT(head.release().contributions(),
              ElementsAre("models/m/contributions/b"));
  ASSERT_EQ(head.line_size(), 1);
  EXPECT_EQ(head.line(0).release(), head.release().name());
  // And again, now with a line that went through a revert.
  Revert("b");
  Settle();
  EXPECT_EQ(hub_.State("b"), "REVERTED");
  EXPECT_EQ(
      hub_.store().Read().Head(testing::kModel)->release().digest(),
      hub_.Get<ReleaseRecord>("models/m/releases/v1.0.0").release().digest());
}

TEST_F(BatchStageTest, RevertsWaitForOneAnother) {
  Merge("a");
  Merge("b");
  Revert("b");
  Revert("a");
  Settle();
  EXPECT_EQ(hub_.State("a"), "REVERTED");
  EXPECT_EQ(hub_.State("b"), "REVERTED");
  EXPECT_EQ(hub_.store().Read().Head(testing::kModel)->line_size(), 0);
}

TEST_F(BatchStageTest, RevertAskedTwiceIsOneBatch) {
  Merge("a");
  EXPECT_EQ(Revert("a").name(), Revert("a").name());
}

TEST_F(BatchStageTest, RevertThatHurtsAProtectedSuiteFails) {
  Merge("a");
  bad_ = {};
  hub_.effect = [](const std::set<std::string>& merged, const std::string&) {
    return merged.contains("a") ? 0.0 : -0.2;
  };
  // Kept scores of the head are from before; the reverted weights are worse.
  Revert("a");
  ASSERT_OK(hub_.store().Transact([&](HubTransaction& transaction) {
    const auto kept = *transaction.ListAll<store::v1::BaseScoresRecord>("");
    for (const auto& scores : kept) {
      CAIRN_RETURN_IF_ERROR(transaction.Delete<store::v1::BaseScoresRecord>(
          Table<store::v1::BaseScoresRecord>::Name(scores)));
    }
    return absl::OkStatus();
  }));
  Settle();
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  EXPECT_EQ(hub_.LastBatch().state(), v1::Batch::FAILED);
  EXPECT_EQ(
      hub_.Get<ContributionRecord>("models/m/contributions/a").revert_batch(),
      "");
}

TEST_F(BatchStageTest, ReplayGivesTheSameDigest) {
  Merge("a");
  Merge("b");
  Revert("a");
  Settle();
  ReplayStage stage(hub_.store(), hub_.blobs());
  HubLineService lines(hub_.store(), hub_.jobs());
  for (const char* version : {"v1.1.0", "v1.2.0", "v1.3.0"}) {
    v1::StartReplayRequest request;
    request.set_name(std::string("models/m/releases/") + version);
    auto started = lines.StartReplay(Maintainer(), request);
    ASSERT_OK(started.status());
    hub_.RunAll({&stage});
    v1::GetReplayRequest get;
    get.set_name(started->name());
    auto replay = lines.GetReplay(get);
    ASSERT_OK(replay.status());
    EXPECT_TRUE(replay->done()) << version;
    EXPECT_TRUE(replay->matches()) << version;
  }
}

TEST_F(BatchStageTest, TwoConfirmationsNeedAnotherWorker) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_confirmations(2); });
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  // The only worker may not confirm its own merge.
  EXPECT_EQ(hub_.State("a"), "BATCHED");
  const auto batch = hub_.Get<BatchRecord>(hub_.LastBatch().name());
  const auto job = hub_.Get<store::v1::JobRecord>(batch.trials(0).job());
  EXPECT_EQ(job.state(), store::v1::JobRecord::PENDING);
  EXPECT_THAT(job.excluded_instances(), ElementsAre("instance"));
  EXPECT_EQ(job.spec().merge().output(), v1::MergeSpec::DIGEST_ONLY);
}

// A restart between any two commits changes nothing in the outcome.
TEST_F(BatchStageTest, RestartsAnywhereLeadToTheSameEnd) {
  bad_ = {"b"};
  for (const char* id : {"a", "b", "c"}) {
    hub_.AddContribution(id, v1::Contribution::QUEUED, {"c"});
  }
  Start();
  for (int step = 0; step < 200; ++step) {
    hub_.Restart();
    BatchStage stage(hub_.store(), hub_.blobs(), hub_.publisher());
    if (step % 2 == 0) {
      ASSERT_OK(stage.RunPass().status());
    } else {
      hub_.WorkOnce();
    }
  }
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  EXPECT_EQ(hub_.State("b"), "REJECTED");
  EXPECT_EQ(hub_.State("c"), "RELEASED");
  EXPECT_EQ(hub_.Head(), "v1.1.0");
}

// A store that fails any one transaction, before or after it was written,
// changes nothing in the outcome: nothing is lost, nothing is done twice.
TEST_F(BatchStageTest, FaultsOfTheStoreLeadToTheSameEnd) {
  using When = testing::FaultyMetadataStore::When;
  for (When when : {When::kBeforeCommit, When::kAfterCommit}) {
    for (int nth = 1; nth <= 60; ++nth) {
      Pipeline hub;
      hub.AddSuite("prose", true);
      hub.AddSuite("c");
      hub.effect = [](const std::set<std::string>& merged,
                      const std::string& suite) {
        if (suite == "prose") return merged.contains("b") ? -0.1 : 0.0;
        return merged.empty() ? 0.0 : 0.05;
      };
      for (const char* id : {"a", "b", "c"}) {
        hub.AddContribution(id, v1::Contribution::QUEUED, {"c"});
      }
      v1::StartBatchRequest request;
      request.set_parent(testing::kModel);
      request.set_strategy("average");
      ASSERT_OK(BatchService(hub.store(), hub.jobs())
                    .Start(Maintainer(), request)
                    .status());
      hub.faults().FailNth(nth, when, absl::UnavailableError("planned"));
      BatchStage stage(hub.store(), hub.blobs(), hub.publisher());
      for (int turn = 0; turn < 100; ++turn) {
        EXPECT_OK(stage.RunPass().status());
        hub.WorkOnce();
      }
      EXPECT_EQ(hub.State("a"), "RELEASED") << nth;
      EXPECT_EQ(hub.State("b"), "REJECTED") << nth;
      EXPECT_EQ(hub.State("c"), "RELEASED") << nth;
      EXPECT_EQ(hub.Head(), "v1.1.0") << nth;
    }
  }
}

TEST_F(BatchStageTest, NothingQueuedIsAFailedPrecondition) {
  v1::StartBatchRequest request;
  request.set_parent(testing::kModel);
  BatchService batches(hub_.store(), hub_.jobs());
  EXPECT_EQ(batches.Start(Maintainer(), request).status().code(),
            absl::StatusCode::kFailedPrecondition);
  hub_.AddContribution("a");
  Start();
  hub_.AddContribution("b");
  auto second = batches.Start(Maintainer(), request).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr("is running"));
}

TEST_F(BatchStageTest, BadParametersAreNamed) {
  hub_.AddContribution("a");
  BatchService batches(hub_.store(), hub_.jobs());
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"lambda", "x"},
      {"lambda", "-1"},
      {"lambda", "11"},
      {"density", "0.2"},
      {"colour", "1"}};
  for (const auto& [key, value] : bad) {
    v1::StartBatchRequest request;
    request.set_parent(testing::kModel);
    request.set_strategy("task_arithmetic");
    (*request.mutable_parameters())[key] = value;
    auto status = batches.Start(Maintainer(), request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(status.message()), HasSubstr(key));
  }
  v1::StartBatchRequest request;
  request.set_parent(testing::kModel);
  request.set_strategy("blend");
  EXPECT_THAT(
      std::string(batches.Start(Maintainer(), request).status().message()),
      HasSubstr("\"blend\"; there are average"));
}

TEST_F(BatchStageTest, HeldContributionsStayInTheQueue) {
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  BatchService batches(hub_.store(), hub_.jobs());
  v1::QueueEditRequest edit;
  edit.set_name("models/m/contributions/b");
  EXPECT_EQ(batches.Hold(Maintainer(), edit).status().code(),
            absl::StatusCode::kInvalidArgument);
  edit.set_etag("stale");
  EXPECT_EQ(batches.Hold(Maintainer(), edit).status().code(),
            absl::StatusCode::kAborted);
  edit.set_etag(hub_.Contribution("b").etag());
  ASSERT_OK(batches.Hold(Maintainer(), edit).status());
  Start();
  EXPECT_EQ(hub_.State("a"), "BATCHED");
  EXPECT_EQ(hub_.State("b"), "QUEUED");
  edit.set_etag(hub_.Contribution("b").etag());
  ASSERT_OK(batches.Unhold(Maintainer(), edit).status());
  EXPECT_FALSE(hub_.Contribution("b").held());
}

TEST_F(BatchStageTest, BatchStartsByItselfByCountAndByAge) {
  BatchService batches(hub_.store(), hub_.jobs());
  AutoBatchStage stage(hub_.store(), batches);
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  EXPECT_EQ(stage.RunPass().value(), 0) << "no rule";
  hub_.SetPolicy([](v1::Policy& p) { p.mutable_batch()->set_count(2); });
  EXPECT_EQ(stage.RunPass().value(), 0);
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  EXPECT_EQ(stage.RunPass().value(), 1);
  EXPECT_EQ(hub_.State("a"), "BATCHED");
  Settle();
  hub_.SetPolicy([](v1::Policy& p) {
    p.mutable_batch()->set_count(0);
    p.mutable_batch()->set_age_seconds(3600);
  });
  hub_.AddContribution("d", v1::Contribution::QUEUED, {"c"});
  EXPECT_EQ(stage.RunPass().value(), 0);
  hub_.clock().Advance(absl::Hours(2));
  EXPECT_EQ(stage.RunPass().value(), 1);
}

TEST_F(BatchStageTest, AModelWithoutSuitesCannotMerge) {
  Pipeline bare;
  bare.AddContribution("a");
  v1::StartBatchRequest request;
  request.set_parent(testing::kModel);
  ASSERT_OK(BatchService(bare.store(), bare.jobs())
                .Start(Maintainer(), request)
                .status());
  BatchStage stage(bare.store(), bare.blobs(), bare.publisher());
  bare.RunAll({&stage});
  EXPECT_EQ(bare.State("a"), "NEEDS_REVIEW");
  EXPECT_EQ(bare.LastBatch().reasons(0).code(), v1::Reason::NO_SUITES);
}

}  // namespace
}  // namespace cairn
