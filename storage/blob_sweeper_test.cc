#include "storage/blob_sweeper.h"

#include <gtest/gtest.h>

#include <set>

#include "storage/memory/memory_blob_store.h"

namespace cairn {
namespace {

class BlobSweeperTest : public ::testing::Test {
 protected:
  Digest Put(const std::string& bytes) { return *blobs_.Put(bytes); }
  bool Has(const Digest& digest) { return blobs_.Stat(digest).ok(); }

  FakeClock clock_;
  MemoryBlobStore blobs_{clock_};
  std::set<Digest> named_;
  // Runs while the names are read.
  std::function<absl::Status()> meanwhile_ = [] { return absl::OkStatus(); };
  BlobSweeper sweeper_{blobs_, clock_, absl::Hours(1),
                       [this](const std::function<void(const Digest&)>& visit) {
                         for (const Digest& digest : named_) visit(digest);
                         return meanwhile_();
                       }};
};

TEST_F(BlobSweeperTest, RemovesOnlyOldBlobsThatNothingNames) {
  const Digest old = Put("old");
  const Digest named = Put("named");
  named_.insert(named);
  clock_.Advance(absl::Hours(2));
  const Digest young = Put("young");
  auto result = sweeper_.Sweep();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->blobs_removed, 1);
  EXPECT_EQ(result->bytes_removed, 3);
  EXPECT_EQ(result->blobs_kept, 2);
  EXPECT_FALSE(Has(old));
  EXPECT_TRUE(Has(named));
  EXPECT_TRUE(Has(young));
}

TEST_F(BlobSweeperTest, BlobTouchedDuringTheSweepStays) {
  const Digest blob = Put("about to be named");
  clock_.Advance(absl::Hours(2));
  meanwhile_ = [&] { return blobs_.Touch(blob); };
  auto result = sweeper_.Sweep();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->blobs_removed, 0);
  EXPECT_TRUE(Has(blob));
}

TEST_F(BlobSweeperTest, NothingGoesWhenTheNamesCannotBeRead) {
  const Digest blob = Put("x");
  clock_.Advance(absl::Hours(2));
  meanwhile_ = [] { return absl::DataLossError("broken record"); };
  EXPECT_TRUE(absl::IsDataLoss(sweeper_.Sweep().status()));
  EXPECT_TRUE(Has(blob));
}

}  // namespace
}  // namespace cairn
