#include "server/ops/blob_scrub_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/flow/blob_ownership.h"
#include "server/ops/care_tables.h"
#include "server/ops/store_check.h"
#include "server/ops/store_stats.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"
#include "storage/testing/faulty_blob_store.h"

namespace cairn {
namespace {

using testing::BlobFault;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BlobScrubStageTest : public ::testing::Test {
 protected:
  void PutContribution(const std::string& id, const Digest& digest) {
    store::v1::ContributionRecord record;
    record.set_model("models/m");
    auto& contribution = *record.mutable_contribution();
    contribution.set_name("models/m/contributions/" + id);
    contribution.set_state(v1::Contribution::RECEIVED);
    contribution.add_files()->set_sha256(digest.hex());
    contribution.mutable_files(0)->set_size_bytes(6);
    absl::Status status = store_.Transact(
        [&](HubTransaction& transaction) { return transaction.Put(record); });
    ASSERT_TRUE(status.ok()) << status;
  }
  std::unique_ptr<BlobScrubStage> NewStage(int64_t rate = 1 << 30) {
    return std::make_unique<BlobScrubStage>(store_, blobs_, rate,
                                            absl::Hours(24));
  }
  v1::ScrubState State() {
    auto state = DescribeScrub(store_.Read());
    EXPECT_TRUE(state.ok()) << state.status();
    return *state;
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  MemoryBlobStore memory_{clock_};
  testing::FaultyBlobStore blobs_{memory_};
};

TEST_F(BlobScrubStageTest, TellsEverythingThatNeedsADamagedBlob) {
  const Digest digest = *memory_.Put("update");
  PutContribution("c1", digest);
  PutContribution("c2", digest);
  ASSERT_TRUE(store_
                  .Transact([&](HubTransaction& txn) {
                    return RecordOwner(txn, "users/eve", digest, 6);
                  })
                  .ok());
  blobs_.FailAlways(BlobFault::kRead, absl::DataLossError("it rotted"));
  auto stage = NewStage();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stage->RunPass().ok());
    clock_.Advance(absl::Hours(25));
  }
  EXPECT_EQ(stage->damaged_blobs(), 1);
  v1::ScrubState state = State();
  ASSERT_EQ(state.damaged_size(), 1);
  EXPECT_EQ(state.damaged(0).sha256(), digest.hex());
  EXPECT_EQ(state.damaged(0).message(), "it rotted");
  EXPECT_THAT(
      state.damaged(0).used_by(),
      ElementsAre("models/m/contributions/c1", "models/m/contributions/c2"));
  EXPECT_FALSE(*IsOwner(store_.Read(), "users/eve", digest))
      << "is asked for the bytes again";
  auto events = store_.Read().ListAll<store::v1::EventRecord>("models/m/");
  ASSERT_EQ(events->size(), 2) << "told once, not every round";
  EXPECT_EQ(events->front().event().kind(), "storage.damaged");
  auto check = CheckStore(store_.Read(), blobs_, BlobCheck::kPresence);
  ASSERT_TRUE(check.ok());
  std::vector<std::string> problems(check->problems().begin(),
                                    check->problems().end());
  EXPECT_THAT(problems, Contains(HasSubstr("c1: it rotted")));
  EXPECT_THAT(problems, Contains(HasSubstr("c2: it rotted")));
}

TEST_F(BlobScrubStageTest, ForgetsWhatReadsWellAgainOrIsGone) {
  const Digest one = *memory_.Put("one");
  ASSERT_TRUE(memory_.Put("two").ok());
  blobs_.FailAlways(BlobFault::kRead, absl::DataLossError("it rotted"));
  ASSERT_TRUE(NewStage()->RunPass().ok());
  EXPECT_EQ(State().damaged_size(), 2);
  blobs_.Heal();
  ASSERT_TRUE(memory_.Remove(one).ok());
  clock_.Advance(absl::Hours(25));
  auto stage = NewStage();
  ASSERT_TRUE(stage->RunPass().ok());
  EXPECT_EQ(State().damaged_size(), 0);
  EXPECT_EQ(stage->damaged_blobs(), 0);
}

TEST_F(BlobScrubStageTest, RestartGoesOnWhereThePositionWasNoted) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        memory_.Put(std::string(1000, 'a' + static_cast<char>(i))).ok());
  }
  // A blob counts at least 64 KiB: one a pass.
  auto stage = NewStage(64 << 10);
  int passes = 0;
  while (State().blobs() < 5 && ++passes < 60) {
    ASSERT_TRUE(stage->RunPass().ok());
    clock_.Advance(absl::Seconds(11));
  }
  const int64_t noted = State().blobs();
  EXPECT_TRUE(State().has_start_time());
  EXPECT_FALSE(State().has_end_time());
  stage = NewStage();
  ASSERT_TRUE(stage->RunPass().ok());
  EXPECT_EQ(stage->scrubbed_bytes(), (20 - noted) * 1000);
  EXPECT_EQ(State().blobs(), 20);
  EXPECT_TRUE(State().has_end_time());
  ASSERT_TRUE(stage->RunPass().ok());
  EXPECT_EQ(stage->scrubbed_bytes(), (20 - noted) * 1000) << "rests";
}

TEST_F(BlobScrubStageTest, EndsSoonWhenAsked) {
  ASSERT_TRUE(memory_.Put("x").ok());
  auto stage = NewStage();
  stage->EndSoon();
  ASSERT_TRUE(stage->RunPass().ok());
  EXPECT_EQ(stage->scrubbed_bytes(), 0);
}

}  // namespace
}  // namespace cairn
