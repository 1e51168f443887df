#include "server/ops/blob_sweep_stage.h"

#include <gtest/gtest.h>

#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

class BlobSweepStageTest : public ::testing::Test {
 protected:
  void PutContribution(const std::string& sha256) {
    store::v1::ContributionRecord record;
    record.set_model("models/m");
    auto& contribution = *record.mutable_contribution();
    contribution.set_name("models/m/contributions/c1");
    contribution.set_state(v1::Contribution::RECEIVED);
    auto* file = contribution.add_files();
    file->set_path("adapter_config.json");
    file->set_sha256(sha256);
    file->set_size_bytes(6);
    absl::Status status = store_.Transact(
        [&](HubTransaction& transaction) { return transaction.Put(record); });
    ASSERT_TRUE(status.ok()) << status;
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  MemoryBlobStore blobs_{clock_};
  SweepGate gate_;
  BlobSweepStage stage_{store_, blobs_, absl::Hours(24), gate_};
};

TEST_F(BlobSweepStageTest, SweepsWhatNoRecordNamesAfterItsGrace) {
  const Digest named = *blobs_.Put("update");
  const Digest orphan = *blobs_.Put("orphan");
  PutContribution(named.hex());
  ASSERT_TRUE(stage_.RunPass().ok());
  clock_.Advance(absl::Hours(23));
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(blobs_.Stat(orphan).ok());
  clock_.Advance(absl::Hours(2));
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(absl::IsNotFound(blobs_.Stat(orphan).status()));
  EXPECT_TRUE(blobs_.Stat(named).ok());
}

TEST_F(BlobSweepStageTest, NothingIsSweptWhileTheGateIsHeld) {
  const Digest orphan = *blobs_.Put("orphan");
  clock_.Advance(absl::Hours(25));
  {
    SweepGate::Hold hold(gate_);
    ASSERT_TRUE(stage_.RunPass().ok());
    EXPECT_TRUE(blobs_.Stat(orphan).ok());
  }
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(absl::IsNotFound(blobs_.Stat(orphan).status()));
}

TEST_F(BlobSweepStageTest, KeepsDeltasThatAreReady) {
  const Digest delta = *blobs_.Put("delta");
  store::v1::DeltaRecord record;
  record.mutable_delta()->set_name("models/m/releases/v2/deltas/v1");
  record.mutable_delta()->set_state(v1::Delta::READY);
  record.mutable_delta()->set_sha256(delta.hex());
  record.mutable_delta()->set_size_bytes(5);
  absl::Status status = store_.Transact(
      [&](HubTransaction& transaction) { return transaction.Put(record); });
  ASSERT_TRUE(status.ok()) << status;
  clock_.Advance(absl::Hours(25));
  ASSERT_TRUE(stage_.RunPass().ok());
  EXPECT_TRUE(blobs_.Stat(delta).ok());
}

TEST_F(BlobSweepStageTest, DamagedNamesStopTheSweep) {
  const Digest orphan = *blobs_.Put("orphan");
  PutContribution("no digest");
  clock_.Advance(absl::Hours(25));
  EXPECT_TRUE(absl::IsDataLoss(stage_.RunPass().status()));
  EXPECT_TRUE(blobs_.Stat(orphan).ok());
}

}  // namespace
}  // namespace cairn
