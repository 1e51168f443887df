#include "server/review/review_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status_util.h"
#include "server/testing/pipeline_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Pipeline;

class ReviewServiceTest : public ::testing::Test {
 protected:
  ReviewServiceTest() {
    hub_.AddContribution("a", v1::Contribution::NEEDS_REVIEW);
  }
  static Caller Reviewer(const std::string& user) {
    return {.user = user, .role = v1::User::REVIEWER};
  }
  // A request as somebody makes it who just looked.
  v1::ReviewRequest Seen(const std::string& id,
                         const std::string& note = "ok") {
    v1::ReviewRequest request;
    const v1::Contribution contribution = hub_.Contribution(id);
    request.set_name(contribution.name());
    request.set_etag(contribution.etag());
    request.set_digest(contribution.digest());
    request.set_note(note);
    return request;
  }

  Pipeline hub_;
  ReviewService reviews_{hub_.store(), hub_.jobs()};
  const Caller carol_ = Reviewer("users/carol");
  const Caller dave_ = Reviewer("users/dave");
};

TEST_F(ReviewServiceTest, ApprovalQueues) {
  auto approved = reviews_.Approve(carol_, Seen("a"));
  ASSERT_OK(approved.status());
  EXPECT_EQ(approved->state(), v1::Contribution::QUEUED);
  EXPECT_THAT(approved->approvals(), ElementsAre("users/carol"));
  EXPECT_EQ(approved->verdicts(0).reviewer(), "users/carol");
  const auto record =
      hub_.Get<store::v1::ContributionRecord>("models/m/contributions/a");
  EXPECT_EQ(record.votes(0).digest(), record.contribution().digest());
  EXPECT_GT(record.queue_position(), 0);
}

TEST_F(ReviewServiceTest, PolicyMayAskForTwo) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_approvals(2); });
  EXPECT_EQ(reviews_.Approve(carol_, Seen("a"))->state(),
            v1::Contribution::NEEDS_REVIEW);
  EXPECT_EQ(reviews_.Approve(carol_, Seen("a"))->state(),
            v1::Contribution::NEEDS_REVIEW)
      << "one person counts once";
  EXPECT_EQ(reviews_.Approve(dave_, Seen("a"))->state(),
            v1::Contribution::QUEUED);
}

TEST_F(ReviewServiceTest, RejectionNeedsANote) {
  EXPECT_EQ(reviews_.Reject(carol_, Seen("a", "")).status().code(),
            absl::StatusCode::kInvalidArgument);
  auto rejected = reviews_.Reject(carol_, Seen("a", "not wanted"));
  ASSERT_OK(rejected.status());
  EXPECT_EQ(rejected->state(), v1::Contribution::REJECTED);
  EXPECT_EQ(rejected->verdicts(0).reasons(0).code(), v1::Reason::REVIEWER);
  EXPECT_EQ(rejected->verdicts(0).reasons(0).message(), "not wanted");
}

TEST_F(ReviewServiceTest, NobodyDecidesOnTheirOwn) {
  const Caller alice = Reviewer("users/alice");
  for (auto status : {reviews_.Approve(alice, Seen("a")).status(),
                      reviews_.Reject(alice, Seen("a")).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_EQ(GetReason(status)->code, "NOT_PERMITTED");
  }
}

TEST_F(ReviewServiceTest, DecisionIsAboutWhatWasSeen) {
  v1::ReviewRequest request = Seen("a");
  request.set_digest("sha256:other");
  EXPECT_EQ(reviews_.Approve(carol_, request).status().code(),
            absl::StatusCode::kAborted);
  request = Seen("a");
  v1::AddCommentRequest comment;
  comment.set_name(request.name());
  comment.set_text("wait");
  ASSERT_OK(reviews_.AddComment(dave_, comment).status());
  EXPECT_EQ(reviews_.Approve(carol_, request).status().code(),
            absl::StatusCode::kAborted);
  request = Seen("a");
  request.add_report_ids("unknown");
  EXPECT_EQ(reviews_.Approve(carol_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request = Seen("a");
  request.clear_etag();
  EXPECT_THAT(std::string(reviews_.Approve(carol_, request).status().message()),
              HasSubstr("etag"));
}

TEST_F(ReviewServiceTest, WrongStateIsAFailedPrecondition) {
  hub_.AddContribution("q", v1::Contribution::QUEUED);
  EXPECT_EQ(reviews_.Approve(carol_, Seen("q")).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ReviewServiceTest, CommentIsSaidOnce) {
  v1::AddCommentRequest comment;
  comment.set_name("models/m/contributions/a");
  comment.set_text("nice");
  comment.set_request_id("r1");
  ASSERT_OK(reviews_.AddComment(carol_, comment).status());
  auto again = reviews_.AddComment(carol_, comment);
  ASSERT_OK(again.status());
  ASSERT_EQ(again->comments_size(), 1);
  EXPECT_EQ(again->comments(0).author(), "users/carol");
  comment.set_request_id("r2");
  comment.set_text(std::string(5000, 'x'));
  EXPECT_EQ(reviews_.AddComment(carol_, comment).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ReviewServiceTest, UndecidedExpireAfterThirtyDays) {
  ReviewExpiryStage stage(hub_.store());
  hub_.clock().Advance(absl::Hours(24 * 29));
  EXPECT_EQ(stage.RunPass().value(), 0);
  hub_.clock().Advance(absl::Hours(24 * 2));
  EXPECT_EQ(stage.RunPass().value(), 1);
  EXPECT_EQ(hub_.State("a"), "WITHDRAWN");
  EXPECT_EQ(stage.RunPass().value(), 0);
}

}  // namespace
}  // namespace cairn
