#include "server/vet/screen_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "server/flow/contribution_state.h"
#include "server/testing/small_update.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Pipeline;
using testing::SmallUpdate;

class ScreenStageTest : public ::testing::Test {
 protected:
  ScreenStageTest() { UseSmallBase(hub_); }

  // Puts a RECEIVED contribution in.
  void Add(const std::string& id, const SmallUpdate& update,
           const std::string& author = "users/alice") {
    v1::ContributionManifest manifest = StoreUpdate(hub_, update);
    hub_.AddContribution(id, v1::Contribution::RECEIVED, {}, author);
    ASSERT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
      CAIRN_ASSIGN_OR_RETURN(auto record, t.Get<ContributionRecord>(
                                              "models/m/contributions/" + id));
      auto& contribution = *record.mutable_contribution();
      *contribution.mutable_files() = manifest.files();
      contribution.set_digest(manifest.update_digest());
      contribution.set_attested_by("hub");
      record.set_base_digest(manifest.base_digest());
      record.set_manifest(manifest.SerializeAsString());
      return t.Put(record);
    }));
  }
  // The first reason after one pass; unset when there is none.
  v1::Reason Screened(const std::string& id) {
    ScreenStage stage(hub_.store(), hub_.blobs());
    EXPECT_OK(stage.RunPass().status());
    const v1::Contribution contribution = hub_.Contribution(id);
    const v1::Verdict& verdict =
        contribution.verdicts(contribution.verdicts_size() - 1);
    EXPECT_EQ(verdict.stage(), "screen");
    EXPECT_EQ(contribution.state(), verdict.reasons().empty()
                                        ? v1::Contribution::SCREENED
                                        : v1::Contribution::REJECTED);
    return verdict.reasons().empty() ? v1::Reason() : verdict.reasons(0);
  }

  Pipeline hub_;
};

TEST_F(ScreenStageTest, SoundUpdateIsScreened) {
  Add("a", {});
  EXPECT_EQ(Screened("a").code(), v1::Reason::CODE_UNSPECIFIED);
}

TEST_F(ScreenStageTest, LargeChangeIsRejectedByTensorAndNumbers) {
  // tau = 2 * 0.5 * 20 = 20 an element beside 1: a ratio of 20.
  Add("a", {.b = 20.0f});
  const v1::Reason reason = Screened("a");
  EXPECT_EQ(reason.code(), v1::Reason::NORM_TOO_LARGE);
  EXPECT_EQ(reason.tensor(), testing::kProjection);
  EXPECT_NEAR(reason.measured(), 20, 1e-4);
  EXPECT_EQ(reason.limit(), 3);
}

TEST_F(ScreenStageTest, NormLimitIsThePolicys) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_norm_ratio_max(25); });
  Add("a", {.b = 20.0f});
  EXPECT_EQ(Screened("a").code(), v1::Reason::CODE_UNSPECIFIED);
}

TEST_F(ScreenStageTest, NonFiniteIsRejectedByTensor) {
  Add("a", {.b = std::numeric_limits<float>::quiet_NaN()});
  const v1::Reason reason = Screened("a");
  EXPECT_EQ(reason.code(), v1::Reason::NON_FINITE);
  EXPECT_THAT(reason.message(), HasSubstr("lora_B"));
}

TEST_F(ScreenStageTest, OtherShapeIsRejected) {
  Add("a", {.out = 5});
  EXPECT_EQ(Screened("a").code(), v1::Reason::SHAPE_MISMATCH);
}

TEST_F(ScreenStageTest, UnknownModuleIsRejected) {
  Add("a", {.module = "model.layers.7.self_attn.q_proj"});
  EXPECT_EQ(Screened("a").code(), v1::Reason::UNKNOWN_TENSOR);
}

TEST_F(ScreenStageTest, CutFileIsRejected) {
  Add("a", {.cut = 8});
  EXPECT_EQ(Screened("a").code(), v1::Reason::MALFORMED_FILE);
}

TEST_F(ScreenStageTest, SecondOfTheSameUpdateIsRejected) {
  Add("a", {});
  EXPECT_EQ(Screened("a").code(), v1::Reason::CODE_UNSPECIFIED);
  Add("b", {});
  EXPECT_EQ(Screened("b").code(), v1::Reason::DUPLICATE);
}

TEST_F(ScreenStageTest, BadSignatureIsRejected) {
  Add("a", {});
  ASSERT_OK(hub_.store().Transact([&](HubTransaction& t) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(
        auto record, t.Get<ContributionRecord>("models/m/contributions/a"));
    record.mutable_contribution()->set_attested_by("author");
    record.set_signature(std::string(128, '0'));
    return t.Put(record);
  }));
  EXPECT_EQ(Screened("a").code(), v1::Reason::SIGNATURE_INVALID);
}

TEST_F(ScreenStageTest, MissingBlobIsTheHubsTroubleNotTheUpdates) {
  Add("a", {});
  const v1::Contribution contribution = hub_.Contribution("a");
  ASSERT_OK(
      hub_.blobs().Remove(*Digest::Parse(contribution.files(1).sha256())));
  ScreenStage stage(hub_.store(), hub_.blobs());
  EXPECT_FALSE(stage.RunPass().ok());
  EXPECT_EQ(hub_.State("a"), "RECEIVED") << "it is tried again later";
}

TEST_F(ScreenStageTest, RepeatedPassChangesNothing) {
  Add("a", {});
  Screened("a");
  const std::string etag = hub_.Contribution("a").etag();
  ScreenStage stage(hub_.store(), hub_.blobs());
  EXPECT_EQ(stage.RunPass().value(), 0);
  EXPECT_EQ(hub_.Contribution("a").etag(), etag);
}

TEST_F(ScreenStageTest, FingerprintAndFindingsAreKept) {
  Add("a", {});
  Screened("a");
  const v1::Contribution contribution = hub_.Contribution("a");
  ASSERT_EQ(contribution.findings_size(), 7);
  EXPECT_EQ(contribution.findings(0).screen(), "energy");
  EXPECT_THAT(contribution.findings(0).evidence(),
              HasSubstr("0 accepted updates"));
  const auto print =
      hub_.Get<store::v1::FingerprintRecord>("models/m/contributions/a");
  EXPECT_EQ(print.layers(0).tensor(), testing::kProjection);
  // tau = 2 * 0.5 * 0.1 = 0.1 an element beside 1.
  EXPECT_NEAR(print.layers(0).ratio(), 0.1, 1e-6);
  EXPECT_EQ(print.sketch_size(), 1024);
}

TEST_F(ScreenStageTest, ScaledCopyOfAnothersUpdateIsBlockedByPolicy) {
  hub_.SetPolicy(
      [](v1::Policy& policy) { policy.add_screens_block("kinship"); });
  Add("a", {});
  Screened("a");
  Add("b", {.b = 0.05f}, "users/bob");
  const v1::Reason reason = Screened("b");
  EXPECT_EQ(reason.code(), v1::Reason::SCREEN_ANOMALY);
  EXPECT_THAT(reason.message(), HasSubstr("cosine 1.00 with a"));
  Add("c", {.b = 0.04f});
  EXPECT_EQ(Screened("c").code(), v1::Reason::CODE_UNSPECIFIED)
      << "the author's own next try";
}

TEST_F(ScreenStageTest, WithoutThatPolicyACopyIsOnlyLabelled) {
  Add("a", {});
  Screened("a");
  Add("b", {.b = -0.05f}, "users/bob");
  EXPECT_EQ(Screened("b").code(), v1::Reason::CODE_UNSPECIFIED);
  const v1::Finding finding = hub_.Contribution("b").findings(2);
  EXPECT_EQ(finding.screen(), "kinship");
  EXPECT_TRUE(finding.anomaly());
  EXPECT_NEAR(finding.score(), 1, 1e-6);
  EXPECT_THAT(finding.evidence(), HasSubstr("undoes"));
}

}  // namespace
}  // namespace cairn
