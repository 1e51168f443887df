#include "server/ops/retention_stage.h"

#include "gtest/gtest.h"
#include "server/flow/contribution_state.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);

class RetentionStageTest : public ::testing::Test {
 protected:
  template <class Record>
  void Put(Record record) {
    absl::Status put =
        store_.Transact([&](HubTransaction& txn) { return txn.Put(record); });
    ASSERT_TRUE(put.ok()) << put;
  }
  void PutContribution(const std::string& id, v1::Contribution::State state) {
    store::v1::ContributionRecord record;
    record.set_model("models/m");
    v1::Contribution& c = *record.mutable_contribution();
    c.set_name("models/m/contributions/" + id);
    c.set_state(v1::Contribution::RECEIVED);
    Put(record);
    if (state != v1::Contribution::RECEIVED) {
      ASSERT_TRUE(Move(record, state, clock_.Now()).ok());
      Put(record);
    }
  }
  bool Dropped(const std::string& id) {
    return store_.Read()
        .Get<store::v1::ContributionRecord>("models/m/contributions/" + id)
        ->bytes_dropped();
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  HubStore store_{metadata_, clock_};
  RetentionStage stage_{store_, {}};
};

TEST_F(RetentionStageTest, BytesOfRefusedUpdatesGoAfterAWeek) {
  PutContribution("refused", v1::Contribution::REJECTED);
  PutContribution("alive", v1::Contribution::RECEIVED);
  clock_.Advance(6 * kDay);
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_FALSE(Dropped("refused"));
  clock_.Advance(2 * kDay);
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(Dropped("refused"));
  EXPECT_FALSE(Dropped("alive"));
}

TEST_F(RetentionStageTest, ForgetsExpiredTokensAndOldAnswers) {
  store::v1::TokenRecord token;
  token.set_secret_sha256("abc");
  *token.mutable_expire_time() = ToTimestamp(clock_.Now() + 3 * kDay);
  Put(token);
  store::v1::RequestRecord request;
  request.set_user("users/u");
  request.set_method("M");
  request.set_request_id("r");
  *request.mutable_create_time() = ToTimestamp(clock_.Now());
  Put(request);
  auto has = [&] {
    HubSnapshot snapshot = store_.Read();
    return std::pair(
        snapshot.Find<store::v1::TokenRecord>("abc")->has_value(),
        snapshot.Find<store::v1::RequestRecord>("users/u/M/r")->has_value());
  };
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_EQ(has(), std::pair(true, true));
  clock_.Advance(4 * kDay);
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_EQ(has(), std::pair(false, true));
  clock_.Advance(4 * kDay);
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_EQ(has(), std::pair(false, false));
}

TEST_F(RetentionStageTest, LooksOnlyOnceAnInterval) {
  ASSERT_TRUE(stage_.RunPass().ok());
  PutContribution("refused", v1::Contribution::REJECTED);
  auto record = *store_.Read().Get<store::v1::ContributionRecord>(
      "models/m/contributions/refused");
  *record.mutable_contribution()->mutable_update_time() =
      ToTimestamp(clock_.Now() - 30 * kDay);
  Put(record);
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_FALSE(Dropped("refused"));
  clock_.Advance(absl::Hours(1));
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(Dropped("refused"));
}

}  // namespace
}  // namespace cairn
