#include "storage/fs/fs_blob_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "core/base/direct_appender.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/base/testing/temporary_directory.h"
#include "storage/testing/blob_store_conformance.h"

namespace cairn::testing {
namespace {

namespace stdfs = std::filesystem;

class FsBlobs : public BlobStoreHarness {
 public:
  FsBlobs() { Reopen(); }
  BlobStore& store() override { return *store_; }
  bool Reopen() override {
    store_.reset();
    auto opened = FsBlobStore::Open(directory_ / "data");
    CAIRN_CHECK(opened.ok());
    store_ = *std::move(opened);
    return true;
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<FsBlobStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Fs, BlobStoreConformance, ::testing::Values([] {
                           return std::make_unique<FsBlobs>();
                         }));

class FsBlobStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<FsBlobStore> Open() {
    auto opened = FsBlobStore::Open(directory_.path());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  std::string BlobPath(const Digest& digest) {
    std::string hex = digest.hex();
    return directory_ / ("blobs/" + hex.substr(0, 2) + "/" + hex);
  }

  TemporaryDirectory directory_;
};

TEST_F(FsBlobStoreTest, WhatADeadWriterWroteIsFoundAgain) {
  const std::string bytes(DirectAppender::kBufferBytes + 5000, 'k');
  auto writer = Open()->Begin("u");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(bytes).ok());
  ASSERT_TRUE((*writer)->WriteOut().ok());
  writer->reset();
  auto resumed = Open()->Resume("u");
  ASSERT_TRUE(resumed.ok());
  // What waited in memory is not, as nobody was told that it was safe.
  const auto found = static_cast<size_t>((*resumed)->size());
  EXPECT_EQ(found, DirectAppender::kBufferBytes);
  ASSERT_TRUE((*resumed)->Append(bytes.substr(found)).ok());
  EXPECT_TRUE(std::move(**resumed).Commit(Digest::Of(bytes)).ok());
}

TEST_F(FsBlobStoreTest, HashFollowsWhateverIsSyncedAndCaughtUpWith) {
  std::string bytes(12 * DirectAppender::kBufferBytes + 99, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 2654435761U >> 11);
  }
  auto store = Open();
  auto writer = store->Begin("u");
  ASSERT_TRUE(writer.ok());
  const size_t third = bytes.size() / 3;
  ASSERT_TRUE((*writer)->Append(bytes.substr(0, third)).ok());
  ASSERT_TRUE((*writer)->Sync().ok());
  writer->reset();
  // Behind by what was there, so that it is read back, in part.
  writer = store->Resume("u");
  ASSERT_TRUE(writer.ok());
  for (size_t at = third; at < bytes.size(); at += 200'001) {
    ASSERT_TRUE((*writer)->Append(bytes.substr(at, 200'001)).ok());
    if (at % 5 == 0) {
      ASSERT_EQ(*(*writer)->Sync(), (*writer)->size());
    }
    const int64_t caught_up = *(*writer)->CatchUp(150'000);
    EXPECT_LE(caught_up, (*writer)->size());
  }
  std::string back(300'000, '\0');
  const size_t from = bytes.size() - back.size();
  ASSERT_TRUE((*writer)
                  ->ReadBack(static_cast<int64_t>(from), absl::MakeSpan(back))
                  .ok());
  EXPECT_EQ(back, bytes.substr(from));
  ASSERT_TRUE(std::move(**writer).Commit(Digest::Of(bytes)).ok());
  EXPECT_EQ(store->Stat(Digest::Of(bytes))->size_bytes,
            static_cast<int64_t>(bytes.size()));
}

TEST_F(FsBlobStoreTest, LeftoversOfPutAreDroppedAtOpen) {
  Open();
  std::ofstream(directory_ / "uploads/0123.tmp") << "half";
  std::ofstream(directory_ / "uploads/kept.part") << "half";
  auto store = Open();
  EXPECT_FALSE(stdfs::exists(directory_ / "uploads/0123.tmp"));
  EXPECT_THAT(*store->ListUploads(), ::testing::ElementsAre("kept"));
}

TEST_F(FsBlobStoreTest, StrangeFilesAreNotBlobs) {
  auto store = Open();
  auto digest = store->Put("x");
  ASSERT_TRUE(digest.ok());
  std::ofstream(stdfs::path(BlobPath(*digest)).parent_path() / "README") << "?";
  int seen = 0;
  ASSERT_TRUE(store
                  ->List([&](const BlobStat& stat) {
                    EXPECT_EQ(stat.digest, *digest);
                    ++seen;
                    return true;
                  })
                  .ok());
  EXPECT_EQ(seen, 1);
}

TEST_F(FsBlobStoreTest, TruncatedBlobIsDataLossWhenRead) {
  auto store = Open();
  auto digest = store->Put("0123456789");
  ASSERT_TRUE(digest.ok());
  auto source = store->Open(*digest);
  ASSERT_TRUE(source.ok());
  stdfs::resize_file(BlobPath(*digest), 4);
  std::string out(10, '\0');
  absl::Status status = (*source)->ReadAt(0, absl::MakeSpan(out));
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(FsBlobStoreTest, PutHealsABlobOfTheWrongLength) {
  auto store = Open();
  auto digest = store->Put("0123456789");
  ASSERT_TRUE(digest.ok());
  stdfs::resize_file(BlobPath(*digest), 4);
  ASSERT_TRUE(store->Put("0123456789").ok());
  EXPECT_EQ(store->Stat(*digest)->size_bytes, 10);
}

TEST_F(FsBlobStoreTest, BytesChangedOnTheDiskNeverBecomeABlob) {
  auto writer = Open()->Begin("u");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append("good bytes").ok());
  ASSERT_TRUE((*writer)->Sync().ok());
  writer->reset();
  std::ofstream(directory_ / "uploads/u.part") << "evil bytes";
  auto store = Open();
  auto resumed = store->Resume("u");
  ASSERT_TRUE(resumed.ok());
  const Digest digest = Digest::Of("good bytes");
  EXPECT_TRUE(absl::IsInvalidArgument(std::move(**resumed).Commit(digest)));
  EXPECT_TRUE(absl::IsNotFound(store->Stat(digest).status()));
}

// Of sizes around those of pages and buffers, resumed, caught up and compared
// at random.
TEST_F(FsBlobStoreTest, WriterKeepsEveryByteWhateverTheOrderOfCalls) {
  auto store = Open();
  std::mt19937_64 random(7);
  const auto upto = [&](size_t max) { return random() % (max + 1); };
  for (int round = 0; round < 40; ++round) {
    std::string bytes(1 + upto(2 << 20), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string id = "u" + std::to_string(round);
    auto writer = store->Begin(id);
    ASSERT_TRUE(writer.ok());
    for (size_t at = 0; at < bytes.size();) {
      const std::string piece = bytes.substr(at, 1 + upto(60'000));
      ASSERT_TRUE((*writer)->Append(piece).ok());
      at += piece.size();
      if (upto(5) == 0) {
        ASSERT_EQ((*writer)->Sync().value_or(-1), static_cast<int64_t>(at));
      }
      if (upto(5) == 0) {
        ASSERT_TRUE((*writer)->CatchUp(100'000).ok());
      }
      std::string back(1 + upto(std::min<size_t>(at - 1, 50'000)), '\0');
      const size_t from = at - back.size();
      ASSERT_TRUE(
          (*writer)
              ->ReadBack(static_cast<int64_t>(from), absl::MakeSpan(back))
              .ok());
      ASSERT_EQ(back, bytes.substr(from, back.size()));
      if (upto(9) > 0) continue;
      writer->reset();
      writer = store->Resume(id);
      ASSERT_TRUE(writer.ok());
      at = static_cast<size_t>((*writer)->size());
    }
    const absl::Status stored = std::move(**writer).Commit(Digest::Of(bytes));
    ASSERT_TRUE(stored.ok()) << round << ": " << stored;
  }
}

// RLIMIT_FSIZE makes writes past a size fail in the middle, as a full disk
// does; which errno it is does not matter to what must be kept.
TEST_F(FsBlobStoreTest, FailedWriteLosesNothingAndCanBeRepeated) {
  auto store = Open();
  auto writer = store->Begin("u");
  ASSERT_TRUE(writer.ok());
  const std::string first(3000, 'a');
  const std::string second(2 * DirectAppender::kBufferBytes, 'b');
  ASSERT_TRUE((*writer)->Append(first).ok());
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit tight = {.rlim_cur = DirectAppender::kBufferBytes + 8192,
                         .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status appended = (*writer)->Append(second);
  const absl::Status synced = (*writer)->Sync().status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(appended.ok()) << appended;
  EXPECT_FALSE(synced.ok());
  // A part of it, but without a hole.
  const std::string bytes = first + second;
  const auto written = ReadFile(directory_ / "uploads/u.part");
  ASSERT_TRUE(written.ok());
  EXPECT_LT(written->size(), bytes.size());
  EXPECT_EQ(*written, bytes.substr(0, written->size()));
  EXPECT_TRUE(std::move(**writer).Commit(Digest::Of(bytes)).ok());
}

TEST_F(FsBlobStoreTest, FailedSyncLosesNothingAndCanBeRepeated) {
  auto store = Open();
  auto writer = store->Begin("u");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(std::string(6000, 'a')).ok());
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit tight = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status synced = (*writer)->Sync().status();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(synced.ok());
  EXPECT_EQ((*writer)->size(), 6000);
  EXPECT_EQ(stdfs::file_size(directory_ / "uploads/u.part"), 0);
  EXPECT_EQ((*writer)->Sync().value_or(0), 6000);
  EXPECT_TRUE(
      std::move(**writer).Commit(Digest::Of(std::string(6000, 'a'))).ok());
}

TEST_F(FsBlobStoreTest, BlobsLeaveTheReserveFreeAndReadsGoOn) {
  int64_t free_bytes = 2000;
  auto opened = FsBlobStore::Open(
      directory_.path(),
      {.reserve_bytes = 1000,
       .free_space = [&](const std::string&) { return free_bytes; }});
  ASSERT_TRUE(opened.ok());
  FsBlobStore& store = **opened;
  auto small = store.Put(std::string(900, 's'));
  ASSERT_TRUE(small.ok()) << small.status();
  auto writer = store.Begin("u");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append("begun").ok());
  free_bytes = 1100;
  const std::string large(200, 'l');
  for (const absl::Status& full :
       {store.Put(large).status(),
        store.PutFrom(*MakeMemorySource(large)).status(),
        (*writer)->Append(large)}) {
    EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
    EXPECT_EQ(GetReason(full)->code, "STORAGE_FULL");
  }
  free_bytes = 900;
  EXPECT_TRUE(absl::IsResourceExhausted(store.Begin("v").status()));
  EXPECT_EQ(store.Stat(*small)->size_bytes, 900);
  EXPECT_TRUE(store.Open(*small).ok());
  EXPECT_TRUE((*writer)->Sync().ok());
  EXPECT_TRUE(store.Remove(*small).ok());
  EXPECT_FALSE(stdfs::exists(directory_ / "uploads/v.part"));
  free_bytes = 2000;
  EXPECT_TRUE((*writer)->Append(large).ok());
  EXPECT_TRUE(std::move(**writer).Commit(Digest::Of("begun" + large)).ok());
}

TEST_F(FsBlobStoreTest, TakesABlobOverByLinkOrByCopy) {
  auto store = Open();
  auto digest = store->Put("bytes");
  ASSERT_TRUE(digest.ok());
  for (auto how :
       {FsBlobStore::Transfer::kLink, FsBlobStore::Transfer::kCopy}) {
    TemporaryDirectory other;
    auto target = FsBlobStore::Open(other.path());
    ASSERT_TRUE(target.ok());
    for (int i = 0; i < 2; ++i) {
      absl::Status taken = (*target)->TakeFrom(*store, *digest, how);
      ASSERT_TRUE(taken.ok()) << taken;
    }
    ASSERT_TRUE((*target)->SyncFileSystem().ok());
    EXPECT_EQ((*target)->Stat(*digest)->size_bytes, 5);
    EXPECT_TRUE(stdfs::is_empty(other / "uploads"));
    EXPECT_EQ(stdfs::hard_link_count(BlobPath(*digest)),
              how == FsBlobStore::Transfer::kLink ? 2 : 1);
    EXPECT_TRUE(absl::IsNotFound(
        (*target)->TakeFrom(*store, Digest::Of("absent"), how)));
  }
}

TEST_F(FsBlobStoreTest, DirectoryThatCannotBeMadeIsAClearError) {
  std::ofstream(directory_ / "file") << "x";
  auto store = FsBlobStore::Open(directory_ / "file/data");
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.status().message().find("file/data"),
            absl::string_view::npos);
}

}  // namespace
}  // namespace cairn::testing
