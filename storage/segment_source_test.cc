#include "storage/segment_source.h"

#include <gtest/gtest.h>

#include "storage/memory/memory_blob_store.h"

namespace cairn {
namespace {

class SegmentSourceTest : public ::testing::Test {
 protected:
  BlobSegment Segment(const std::string& bytes) {
    return {.digest = *blobs_.Put(bytes),
            .size_bytes = static_cast<int64_t>(bytes.size())};
  }

  MemoryBlobStore blobs_;
};

TEST_F(SegmentSourceTest, EveryRangeReadsAsTheWhole) {
  const std::string whole = "abcdefghij";
  auto source = MakeSegmentSource(blobs_, "f",
                                  {Segment("abc"), Segment(""), Segment("d"),
                                   Segment("efghij"), Segment("")});
  ASSERT_EQ(source->size(), 10);
  for (size_t begin = 0; begin <= whole.size(); ++begin) {
    for (size_t end = begin; end <= whole.size(); ++end) {
      std::string out(end - begin, '\0');
      ASSERT_TRUE(
          source->ReadAt(static_cast<int64_t>(begin), absl::MakeSpan(out))
              .ok());
      EXPECT_EQ(out, whole.substr(begin, end - begin));
    }
  }
  std::string out(2, '\0');
  EXPECT_TRUE(absl::IsOutOfRange(source->ReadAt(9, absl::MakeSpan(out))));
  EXPECT_TRUE(absl::IsOutOfRange(source->ReadAt(-1, absl::MakeSpan(out))));
}

TEST_F(SegmentSourceTest, MissingOrShortBlobIsDataLossThatNamesTheFile) {
  BlobSegment wrong = Segment("abc");
  wrong.size_bytes = 4;
  for (const BlobSegment& bad :
       {BlobSegment{.digest = Digest::Of("absent"), .size_bytes = 6}, wrong}) {
    auto source =
        MakeSegmentSource(blobs_, "model.safetensors", {Segment("ok"), bad});
    std::string out(2, '\0');
    EXPECT_TRUE(source->ReadAt(0, absl::MakeSpan(out)).ok());
    absl::Status status = source->ReadAt(2, absl::MakeSpan(out));
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_NE(status.message().find("model.safetensors"),
              absl::string_view::npos);
    EXPECT_NE(status.message().find(bad.digest.hex()), absl::string_view::npos);
  }
}

}  // namespace
}  // namespace cairn
