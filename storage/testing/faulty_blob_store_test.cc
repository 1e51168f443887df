#include "storage/testing/faulty_blob_store.h"

#include <gtest/gtest.h>

#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"
#include "storage/testing/blob_store_conformance.h"
#include "storage/testing/faulty_metadata_store.h"

namespace cairn::testing {
namespace {

class Harness : public BlobStoreHarness {
 public:
  BlobStore& store() override { return faulty_; }
  bool Reopen() override { return false; }

 private:
  MemoryBlobStore memory_;
  FaultyBlobStore faulty_{memory_};
};

INSTANTIATE_TEST_SUITE_P(WithoutFaults, BlobStoreConformance,
                         ::testing::Values([] {
                           return std::make_unique<Harness>();
                         }));

TEST(FaultyBlobStoreTest, FailsTheNthCallOnce) {
  MemoryBlobStore memory;
  FaultyBlobStore store(memory);
  store.FailNth(BlobFault::kPut, 2, absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(store.Put("a").ok());
  EXPECT_EQ(store.Put("b").status(), absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsNotFound(memory.Stat(Digest::Of("b")).status()));
  EXPECT_TRUE(store.Put("b").ok());
}

TEST(FaultyBlobStoreTest, WritersAndSourcesFailOnPlanUntilHealed) {
  MemoryBlobStore memory;
  FaultyBlobStore store(memory);
  auto writer = store.Begin("u");
  ASSERT_TRUE(writer.ok());
  store.FailAlways(BlobFault::kSync, absl::UnavailableError("no disk"));
  EXPECT_FALSE((*writer)->Sync().ok());
  EXPECT_FALSE((*writer)->Sync().ok());
  store.Heal();
  EXPECT_TRUE((*writer)->Sync().ok());
}

TEST(FaultyMetadataStoreTest, FailsBeforeOrAfterTheCommit) {
  using When = FaultyMetadataStore::When;
  MemoryMetadataStore memory;
  FaultyMetadataStore store(memory);
  auto put = [](MetadataTransaction& txn) {
    txn.Put("a", "1");
    return absl::OkStatus();
  };
  store.FailNth(1, When::kBeforeCommit, absl::UnavailableError("x"));
  EXPECT_FALSE(store.Transact(put).ok());
  EXPECT_EQ(*store.Snapshot()->Get("a"), std::nullopt);
  store.FailNth(1, When::kAfterCommit, absl::UnavailableError("x"));
  EXPECT_FALSE(store.Transact(put).ok());
  EXPECT_EQ(*store.Snapshot()->Get("a"), "1");
  EXPECT_TRUE(store.Transact(put).ok());
}

}  // namespace
}  // namespace cairn::testing
