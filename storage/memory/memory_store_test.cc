#include <gtest/gtest.h>

#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"
#include "storage/testing/blob_store_conformance.h"
#include "storage/testing/metadata_store_conformance.h"

namespace cairn::testing {
namespace {

class MemoryBlobs : public BlobStoreHarness {
 public:
  BlobStore& store() override { return store_; }
  bool Reopen() override { return false; }

 private:
  MemoryBlobStore store_;
};

class MemoryMetadata : public MetadataStoreHarness {
 public:
  MetadataStore& store() override { return store_; }
  bool Reopen() override { return false; }

 private:
  MemoryMetadataStore store_;
};

INSTANTIATE_TEST_SUITE_P(Memory, BlobStoreConformance, ::testing::Values([] {
                           return std::make_unique<MemoryBlobs>();
                         }));
INSTANTIATE_TEST_SUITE_P(Memory, MetadataStoreConformance,
                         ::testing::Values([] {
                           return std::make_unique<MemoryMetadata>();
                         }));

TEST(MemoryBlobStoreTest, ResumesAtTheSyncedLengthOnly) {
  MemoryBlobStore store;
  auto writer = store.Begin("u");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append("kept").ok());
  ASSERT_TRUE((*writer)->Sync().ok());
  ASSERT_TRUE((*writer)->Append(" lost").ok());
  writer->reset();
  auto resumed = store.Resume("u");
  ASSERT_TRUE(resumed.ok());
  EXPECT_EQ((*resumed)->size(), 4);
}

}  // namespace
}  // namespace cairn::testing
