#include "server/ops/store_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/flow/blob_ownership.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

class StoreStatsTest : public ::testing::Test {
 protected:
  void Transact(const std::function<absl::Status(HubTransaction&)>& fn) {
    absl::Status status = store_.Transact(fn);
    ASSERT_TRUE(status.ok()) << status;
  }
  void PutRelease(const std::string& model, const Digest& digest) {
    store::v1::ReleaseRecord record;
    record.mutable_release()->set_name("models/" + model + "/releases/v1.0.0");
    record.add_files()->add_segments()->set_sha256(digest.hex());
    Transact([&](HubTransaction& txn) { return txn.Put(record); });
  }
  static v1::StorageShare Share(
      const google::protobuf::RepeatedPtrField<v1::StorageShare>& shares,
      const std::string& name) {
    for (const v1::StorageShare& share : shares) {
      if (share.name() == name) return share;
    }
    return {};
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  MemoryBlobStore blobs_{clock_};
};

TEST_F(StoreStatsTest, CountsByKindModelAndUser) {
  const Digest shared = *blobs_.Put(std::string(1000, 's'));
  const Digest sent = *blobs_.Put(std::string(10, 'x'));
  PutRelease("a", shared);
  PutRelease("b", shared);
  store::v1::ContributionRecord contribution;
  contribution.set_model("models/a");
  auto& c = *contribution.mutable_contribution();
  c.set_name("models/a/contributions/c1");
  c.set_state(v1::Contribution::RECEIVED);
  c.add_files()->set_sha256(shared.hex());
  Transact([&](HubTransaction& txn) { return txn.Put(contribution); });
  Transact([&](HubTransaction& txn) {
    return RecordOwner(txn, "users/eve", sent, 10);
  });
  auto stats = CountStore(store_.Read(), blobs_);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->total().blobs(), 2);
  EXPECT_EQ(stats->total().plain_bytes(), 1010);
  EXPECT_EQ(stats->total().stored_bytes(), 1010);
  EXPECT_EQ(Share(stats->kinds(), "releases").plain_bytes(), 1000);
  EXPECT_EQ(Share(stats->kinds(), "contributions").blobs(), 0)
      << "counted as a release's already";
  EXPECT_EQ(Share(stats->kinds(), "unreferenced").plain_bytes(), 10);
  EXPECT_EQ(Share(stats->models(), "models/a").blobs(), 1);
  EXPECT_EQ(Share(stats->models(), "models/b").plain_bytes(), 1000);
  EXPECT_EQ(Share(stats->users(), "users/eve").plain_bytes(), 10);
  EXPECT_EQ(stats->packed_blobs(), 0);
}

}  // namespace
}  // namespace cairn
