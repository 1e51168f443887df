#include "server/intake/upload_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <random>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "server/intake/upload_file_table.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/testing/faulty_blob_store.h"

namespace cairn {
namespace {

using testing::BlobFault;
using testing::FaultyBlobStore;

class UploadFileTest : public ::testing::Test {
 protected:
  std::shared_ptr<UploadFile> Open(UploadFileOptions options = {}) {
    auto writer = blobs_.Begin("u");
    EXPECT_TRUE(writer.ok()) << writer.status();
    return std::make_shared<UploadFile>("uploads/u", *std::move(writer),
                                        options);
  }
  // Tells `told` what became of the bytes.
  void Write(UploadFile& file, int64_t offset, const std::string& bytes,
             std::optional<absl::Status>& told) {
    file.Write({.offset = offset,
                .pieces = {bytes},
                .is_cancelled = &is_cancelled_,
                .done = [&told](absl::Status status) { told = status; }});
  }
  absl::Status WriteNow(UploadFile& file, int64_t offset,
                        const std::string& bytes) {
    std::optional<absl::Status> told;
    Write(file, offset, bytes, told);
    return told.value_or(absl::UnknownError("waits"));
  }

  FakeClock clock_;
  MemoryBlobStore memory_{clock_};
  FaultyBlobStore blobs_{memory_};
  std::atomic<bool> is_cancelled_ = false;
};

TEST_F(UploadFileTest, ChunkThatIsAheadWaitsForItsTurn) {
  auto file = Open();
  const std::string c = "cc";
  const std::string b = "bb";
  std::optional<absl::Status> third;
  std::optional<absl::Status> second;
  Write(*file, 4, c, third);
  Write(*file, 2, b, second);
  EXPECT_FALSE(second.has_value() || third.has_value());
  EXPECT_EQ(file->size(), 0);
  ASSERT_TRUE(WriteNow(*file, 0, "aa").ok());
  EXPECT_TRUE(second->ok());
  EXPECT_TRUE(third->ok());
  EXPECT_EQ(file->size(), 6);
  EXPECT_EQ(*file->Sync(), 6);
  EXPECT_TRUE(std::move(*file->Close()).Commit(Digest::Of("aabbcc")).ok());
}

TEST_F(UploadFileTest, CancelledStreamGetsItsWaitingChunkBack) {
  auto file = Open();
  const std::string ahead = "x";
  std::optional<absl::Status> told;
  Write(*file, 5, ahead, told);
  is_cancelled_ = true;
  file->Forget(&is_cancelled_);
  ASSERT_TRUE(told.has_value());
  EXPECT_TRUE(absl::IsCancelled(*told)) << *told;
  EXPECT_TRUE(absl::IsCancelled(WriteNow(*file, 0, "a")));
}

TEST_F(UploadFileTest, ClosingEndsWhatWaits) {
  auto file = Open();
  const std::string ahead = "x";
  std::optional<absl::Status> told;
  Write(*file, 5, ahead, told);
  EXPECT_NE(file->Close(), nullptr);
  EXPECT_TRUE(absl::IsAborted(*told)) << *told;
  EXPECT_TRUE(absl::IsAborted(WriteNow(*file, 0, "a")));
  EXPECT_TRUE(absl::IsAborted(file->Sync().status()));
  EXPECT_EQ(file->Close(), nullptr);
}

TEST_F(UploadFileTest, FailedAppendFailsOnlyItsChunk) {
  auto file = Open();
  blobs_.FailNth(BlobFault::kAppend, 1, absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(WriteNow(*file, 0, "aa")));
  EXPECT_TRUE(WriteNow(*file, 0, "aa").ok());
  EXPECT_FALSE(file->is_broken());
}

TEST_F(UploadFileTest, FailedSyncBreaksTheFileForAll) {
  auto file = Open();
  ASSERT_TRUE(WriteNow(*file, 0, "aa").ok());
  const std::string ahead = "x";
  std::optional<absl::Status> told;
  Write(*file, 5, ahead, told);
  blobs_.FailNth(BlobFault::kSync, 1, absl::UnavailableError("no disk"));
  EXPECT_TRUE(absl::IsUnavailable(file->Sync().status()));
  EXPECT_TRUE(absl::IsUnavailable(*told)) << *told;
  EXPECT_TRUE(absl::IsUnavailable(WriteNow(*file, 2, "bb")));
  EXPECT_EQ(file->committed(), 0);
  EXPECT_TRUE(file->is_broken());
}

// Streams of random chunks over all of the bytes, synced and hashed beside.
TEST_F(UploadFileTest, ManyStreamsMakeOneWhole) {
  std::mt19937 random(7);
  std::string whole(300'000, '\0');
  for (char& c : whole) c = static_cast<char>(random());
  ThreadPool background({.threads = 2, .queue_max = 1});
  auto file = Open(
      {.sync_bytes = 1000, .unhashed_max = 1 << 30, .background = &background});
  constexpr int kStreams = 4;
  constexpr int64_t kPart = 700;
  std::vector<std::jthread> streams;
  for (int64_t stream = 0; stream < kStreams; ++stream) {
    streams.emplace_back([&, stream] {
      const auto end = static_cast<int64_t>(whole.size());
      for (int64_t at = stream * kPart; at < end; at += kStreams * kPart) {
        std::latch done(1);
        file->Write({.offset = at,
                     .pieces = {absl::string_view(whole).substr(
                         static_cast<size_t>(at), kPart)},
                     .is_cancelled = &is_cancelled_,
                     .done = [&](absl::Status status) {
                       EXPECT_TRUE(status.ok()) << status;
                       done.count_down();
                     }});
        done.wait();
      }
    });
  }
  streams.clear();
  EXPECT_EQ(*file->Sync(), static_cast<int64_t>(whole.size()));
  EXPECT_TRUE(std::move(*file->Close()).Commit(Digest::Of(whole)).ok());
}

TEST_F(UploadFileTest, TableGoesOnAfterAFailedDisk) {
  UploadFileTable table(blobs_, {}, 4);
  {
    auto use = table.Open("t");
    ASSERT_TRUE(use.ok());
    ASSERT_TRUE(WriteNow(*use->operator->(), 0, "aa").ok());
    blobs_.FailNth(BlobFault::kSync, 1, absl::UnavailableError("no disk"));
    EXPECT_FALSE((*use)->Sync().ok());
  }
  auto again = table.Open("t");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE((*again)->is_broken());
}

TEST_F(UploadFileTest, NobodyOpensAFileThatIsTaken) {
  UploadFileTable table(blobs_, {}, 4);
  auto use = table.Open("t");
  ASSERT_TRUE(use.ok());
  {
    auto taken = table.Take("t");
    ASSERT_TRUE(taken.ok());
    EXPECT_NE(taken->writer, nullptr);
    EXPECT_TRUE(absl::IsAborted(table.Open("t").status()));
    EXPECT_TRUE(absl::IsAborted(table.Take("t").status()));
  }
  EXPECT_TRUE(absl::IsAborted((*use)->Sync().status()));
  EXPECT_TRUE(table.Open("t").ok());
  EXPECT_EQ(table.Users("t"), 0);
}

}  // namespace
}  // namespace cairn
