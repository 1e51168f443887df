#include "storage/blob_scrubber.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "storage/memory/memory_blob_store.h"
#include "storage/testing/faulty_blob_store.h"

namespace cairn::testing {
namespace {

class BlobScrubberTest : public ::testing::Test {
 protected:
  BlobScrubberTest() : memory_(clock_), blobs_(memory_) {
    for (int i = 0; i < 8; ++i) {
      digests_.push_back(
          *memory_.Put(std::string(1 << 20, static_cast<char>('a' + i))));
    }
    std::sort(digests_.begin(), digests_.end());
  }
  ScrubTally Run(BlobScrubber& scrubber, const Digest& from) {
    auto tally = scrubber.Run(from, [] { return true; });
    EXPECT_TRUE(tally.ok()) << tally.status();
    return *tally;
  }

  FakeClock clock_;
  MemoryBlobStore memory_;
  FaultyBlobStore blobs_;
  std::vector<Digest> digests_;
};

TEST_F(BlobScrubberTest, ReadsTheWholeStoreAtItsRate) {
  BlobScrubber scrubber(blobs_, clock_, 1 << 20);
  std::optional<Digest> next = Digest();
  int64_t blobs = 0;
  int seconds = 0;
  for (; next.has_value(); ++seconds) {
    ScrubTally tally = Run(scrubber, *next);
    blobs += tally.blobs;
    next = tally.next;
    clock_.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(blobs, 8);
  EXPECT_GE(seconds, 6);
  EXPECT_LE(seconds, 9);
}

TEST_F(BlobScrubberTest, GoesOnWhereItIsTold) {
  BlobScrubber scrubber(blobs_, clock_, 1 << 30);
  ScrubTally tally = Run(scrubber, digests_[5]);
  EXPECT_EQ(tally.blobs, 3);
  EXPECT_EQ(tally.bytes, 3 << 20);
  EXPECT_EQ(tally.next, std::nullopt);
  EXPECT_THAT(tally.sound,
              ::testing::ElementsAre(digests_[5], digests_[6], digests_[7]));
}

TEST_F(BlobScrubberTest, NamesWhatCannotBeReadAndGoesOn) {
  BlobScrubber scrubber(blobs_, clock_, 1 << 30);
  blobs_.FailNth(BlobFault::kRead, 3, absl::DataLossError("a bad sector"));
  ScrubTally tally = Run(scrubber, Digest());
  EXPECT_EQ(tally.blobs, 8);
  ASSERT_EQ(tally.damaged.size(), 1);
  EXPECT_EQ(tally.damaged[0].digest, digests_[2]);
  EXPECT_EQ(tally.damaged[0].what, "a bad sector");
}

TEST_F(BlobScrubberTest, InterruptedRunGoesOnWithTheSameBlob) {
  BlobScrubber scrubber(blobs_, clock_, 1 << 30);
  int left = 4;
  auto tally = scrubber.Run(Digest(), [&] { return left-- > 0; });
  ASSERT_TRUE(tally.ok());
  EXPECT_EQ(tally->blobs, 2);
  EXPECT_EQ(tally->next, digests_[2]);
}

TEST_F(BlobScrubberTest, RateOfZeroReadsNothing) {
  BlobScrubber scrubber(blobs_, clock_, 0);
  EXPECT_EQ(Run(scrubber, Digest()).blobs, 0);
}

}  // namespace
}  // namespace cairn::testing
