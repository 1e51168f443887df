#ifndef CAIRN_STORAGE_TESTING_BLOB_STORE_CONFORMANCE_H_
#define CAIRN_STORAGE_TESTING_BLOB_STORE_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/blob_store.h"

// What every BlobStore must do. A backend's test includes this file and
// instantiates BlobStoreConformance with a maker of its harness.
namespace cairn::testing {

// A store under test.
class BlobStoreHarness {
 public:
  virtual ~BlobStoreHarness() = default;
  virtual BlobStore& store() = 0;
  // Ends the store and opens it again; false when it keeps nothing.
  virtual bool Reopen() = 0;
};

using BlobStoreMaker = std::function<std::unique_ptr<BlobStoreHarness>()>;

class BlobStoreConformance : public ::testing::TestWithParam<BlobStoreMaker> {
 protected:
  BlobStore& store() { return harness_->store(); }

  std::unique_ptr<BlobWriter> Begin(const std::string& id) {
    auto writer = store().Begin(id);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return writer.ok() ? *std::move(writer) : nullptr;
  }
  std::string Read(const Digest& digest) {
    auto source = store().Open(digest);
    if (!source.ok()) return source.status().ToString();
    std::string out(static_cast<size_t>((*source)->size()), '\0');
    absl::Status status = (*source)->ReadAt(0, absl::MakeSpan(out));
    return status.ok() ? out : status.ToString();
  }
  std::vector<Digest> All() {
    std::vector<Digest> found;
    absl::Status status = store().List([&](const BlobStat& stat) {
      found.push_back(stat.digest);
      return true;
    });
    EXPECT_TRUE(status.ok()) << status;
    return found;
  }

  std::unique_ptr<BlobStoreHarness> harness_ = GetParam()();
};

TEST_P(BlobStoreConformance, AbsentBlobIsNotFound) {
  const Digest digest = Digest::Of("absent");
  EXPECT_TRUE(absl::IsNotFound(store().Stat(digest).status()));
  EXPECT_TRUE(absl::IsNotFound(store().Open(digest).status()));
  EXPECT_TRUE(absl::IsNotFound(store().Touch(digest)));
  EXPECT_TRUE(store().Remove(digest).ok());
  auto removed = store().RemoveIfOlder(digest, absl::InfiniteFuture());
  ASSERT_TRUE(removed.ok());
  EXPECT_FALSE(*removed);
}

TEST_P(BlobStoreConformance, PutStoresUnderTheDigestOfTheBytes) {
  const std::string bytes("some\0bytes", 10);
  auto digest = store().Put(bytes);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Digest::Of(bytes));
  auto stat = store().Stat(*digest);
  ASSERT_TRUE(stat.ok());
  EXPECT_EQ(stat->size_bytes, 10);
  EXPECT_EQ(stat->digest, *digest);
  EXPECT_EQ(Read(*digest), bytes);
  ASSERT_TRUE(store().Put(bytes).ok());
  EXPECT_THAT(All(), ::testing::ElementsAre(*digest));
}

TEST_P(BlobStoreConformance, EmptyBlobIsABlob) {
  auto digest = store().Put("");
  ASSERT_TRUE(digest.ok());
  EXPECT_EQ(Read(*digest), "");
}

TEST_P(BlobStoreConformance, ReadsRangesAndRefusesThosePastTheEnd) {
  auto digest = store().Put("0123456789");
  ASSERT_TRUE(digest.ok());
  auto source = store().Open(*digest);
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->size(), 10);
  std::string out(4, '\0');
  ASSERT_TRUE((*source)->ReadAt(3, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, "3456");
  ASSERT_TRUE((*source)->ReadAt(6, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, "6789");
  for (int64_t offset : {int64_t{7}, int64_t{11}, int64_t{-1}, INT64_MAX}) {
    EXPECT_TRUE(
        absl::IsOutOfRange((*source)->ReadAt(offset, absl::MakeSpan(out))))
        << offset;
  }
  EXPECT_TRUE((*source)->ReadAt(10, {}).ok());
}

TEST_P(BlobStoreConformance, UploadBecomesABlobAtCommit) {
  const Digest digest = Digest::Of("hello world");
  auto writer = Begin("u-1");
  ASSERT_TRUE(writer->Append("hello ").ok());
  ASSERT_TRUE(writer->Append("world").ok());
  EXPECT_EQ(writer->size(), 11);
  std::string back(5, '\0');
  ASSERT_TRUE(writer->ReadBack(4, absl::MakeSpan(back)).ok());
  EXPECT_EQ(back, "o wor");
  EXPECT_FALSE(writer->ReadBack(7, absl::MakeSpan(back)).ok());
  auto synced = writer->Sync();
  ASSERT_TRUE(synced.ok());
  EXPECT_EQ(*synced, 11);
  EXPECT_TRUE(absl::IsNotFound(store().Stat(digest).status()));
  absl::Status status = std::move(*writer).Commit(digest);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Read(digest), "hello world");
}

TEST_P(BlobStoreConformance, CommittedUploadStaysUntilItIsAbandoned) {
  const Digest digest = Digest::Of("hello");
  auto writer = Begin("u");
  ASSERT_TRUE(writer->Append("hello").ok());
  ASSERT_TRUE(std::move(*writer).Commit(digest).ok());
  writer.reset();
  harness_->Reopen();
  auto resumed = store().Resume("u");
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ((*resumed)->size(), 5);
  ASSERT_TRUE(std::move(**resumed).Commit(digest).ok());
  ASSERT_TRUE(store().Abandon("u").ok());
  EXPECT_THAT(*store().ListUploads(), ::testing::IsEmpty());
  EXPECT_EQ(Read(digest), "hello");
}

TEST_P(BlobStoreConformance, CommitOfOtherBytesIsRefused) {
  auto writer = Begin("u");
  ASSERT_TRUE(writer->Append("these").ok());
  absl::Status status = std::move(*writer).Commit(Digest::Of("others"));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(All(), ::testing::IsEmpty());
}

TEST_P(BlobStoreConformance, CommitOfWhatIsStoredIsSuccess) {
  auto digest = store().Put("twice");
  ASSERT_TRUE(digest.ok());
  auto writer = Begin("u");
  ASSERT_TRUE(writer->Append("twice").ok());
  ASSERT_TRUE(std::move(*writer).Commit(*digest).ok());
  EXPECT_EQ(Read(*digest), "twice");
  EXPECT_THAT(All(), ::testing::ElementsAre(*digest));
}

TEST_P(BlobStoreConformance, SyncedBytesSurviveReopeningAndGoOn) {
  auto writer = Begin("u");
  ASSERT_TRUE(writer->Append("first ").ok());
  ASSERT_TRUE(writer->Sync().ok());
  writer.reset();
  harness_->Reopen();
  EXPECT_THAT(*store().ListUploads(), ::testing::ElementsAre("u"));
  auto resumed = store().Resume("u");
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ((*resumed)->size(), 6);
  ASSERT_TRUE((*resumed)->Append("second").ok());
  ASSERT_TRUE(std::move(**resumed).Commit(Digest::Of("first second")).ok());
  EXPECT_EQ(Read(Digest::Of("first second")), "first second");
}

TEST_P(BlobStoreConformance, UploadIdsAreCheckedAndUnique) {
  auto writer = Begin("id-1");
  EXPECT_TRUE(absl::IsAlreadyExists(store().Begin("id-1").status()));
  for (const char* id : {"", "../x", "a/b", "a.b", "a b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store().Begin(id).status())) << id;
    EXPECT_TRUE(absl::IsNotFound(store().Resume(id).status())) << id;
    EXPECT_TRUE(store().Abandon(id).ok()) << id;
  }
  EXPECT_TRUE(
      absl::IsInvalidArgument(store().Begin(std::string(65, 'a')).status()));
}

TEST_P(BlobStoreConformance, AbandonedUploadIsGone) {
  auto writer = Begin("u");
  ASSERT_TRUE(writer->Append("x").ok());
  ASSERT_TRUE(writer->Sync().ok());
  writer.reset();
  ASSERT_TRUE(store().Abandon("u").ok());
  ASSERT_TRUE(store().Abandon("u").ok());
  EXPECT_TRUE(absl::IsNotFound(store().Resume("u").status()));
  EXPECT_THAT(*store().ListUploads(), ::testing::IsEmpty());
  EXPECT_NE(Begin("u"), nullptr);
}

TEST_P(BlobStoreConformance, OpenSourceOutlivesRemoval) {
  auto digest = store().Put("still here");
  ASSERT_TRUE(digest.ok());
  auto source = store().Open(*digest);
  ASSERT_TRUE(source.ok());
  ASSERT_TRUE(store().Remove(*digest).ok());
  EXPECT_TRUE(absl::IsNotFound(store().Open(*digest).status()));
  std::string out(10, '\0');
  ASSERT_TRUE((*source)->ReadAt(0, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, "still here");
}

TEST_P(BlobStoreConformance, RemovesOnlyWhatIsOlder) {
  auto digest = store().Put("x");
  ASSERT_TRUE(digest.ok());
  auto stat = store().Stat(*digest);
  ASSERT_TRUE(stat.ok());
  auto removed = store().RemoveIfOlder(*digest, stat->stored_at);
  ASSERT_TRUE(removed.ok());
  EXPECT_FALSE(*removed);
  EXPECT_TRUE(store().Touch(*digest).ok());
  EXPECT_GE(store().Stat(*digest)->stored_at, stat->stored_at);
  removed = store().RemoveIfOlder(*digest, absl::Now() + absl::Hours(1));
  ASSERT_TRUE(removed.ok());
  EXPECT_TRUE(*removed);
  EXPECT_TRUE(absl::IsNotFound(store().Stat(*digest).status()));
}

TEST_P(BlobStoreConformance, ListEndsWhenTheVisitorSaysSo) {
  for (const char* bytes : {"a", "b", "c"})
    ASSERT_TRUE(store().Put(bytes).ok());
  int seen = 0;
  ASSERT_TRUE(store()
                  .List([&](const BlobStat& stat) {
                    EXPECT_EQ(stat.size_bytes, 1);
                    return ++seen < 2;
                  })
                  .ok());
  EXPECT_EQ(seen, 2);
  EXPECT_EQ(All().size(), 3);
}

TEST_P(BlobStoreConformance, ListGoesByDigestFromWhereItIsTold) {
  std::vector<Digest> put;
  for (int i = 0; i < 20; ++i) {
    auto digest = store().Put("blob " + std::to_string(i));
    ASSERT_TRUE(digest.ok());
    put.push_back(*digest);
  }
  std::sort(put.begin(), put.end());
  EXPECT_EQ(All(), put);
  std::vector<Digest> rest;
  ASSERT_TRUE(store()
                  .ListFrom(put[7],
                            [&](const BlobStat& stat) {
                              rest.push_back(stat.digest);
                              return true;
                            })
                  .ok());
  EXPECT_EQ(rest, std::vector<Digest>(put.begin() + 7, put.end()));
}

TEST_P(BlobStoreConformance, StoresAllBytesOfASource) {
  std::string bytes(3'000'001, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 7 + i / 1000);
  }
  for (const std::string& part : {bytes, std::string(), bytes.substr(5)}) {
    FileHasher whole(static_cast<int64_t>(part.size()));
    auto digest = store().PutFrom(*MakeMemorySource(part), &whole);
    ASSERT_TRUE(digest.ok()) << digest.status();
    EXPECT_EQ(*digest, Digest::Of(part));
    EXPECT_EQ(whole.FinishSha256(), digest->hex());
    EXPECT_TRUE(Read(*digest) == part);
    const auto size = static_cast<int64_t>(part.size());
    EXPECT_EQ(store().Stat(*digest)->size_bytes, size);
    EXPECT_EQ(store().Stat(*digest)->stored_bytes, size);
  }
  EXPECT_THAT(*store().ListUploads(), ::testing::IsEmpty());
}

TEST_P(BlobStoreConformance, ManyThreadsStoreTheSameBytes) {
  const std::string bytes(100'000, 'z');
  std::atomic<int> stored = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        if (t % 2 == 0) {
          stored += store().Put(bytes).ok() ? 1 : 0;
          continue;
        }
        auto writer = store().Begin("u" + std::to_string(t * 10 + i));
        if (!writer.ok() || !(*writer)->Append(bytes).ok()) continue;
        stored += std::move(**writer).Commit(Digest::Of(bytes)).ok() ? 1 : 0;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(stored, 20);
  EXPECT_EQ(Read(Digest::Of(bytes)), bytes);
}

}  // namespace cairn::testing

#endif  // CAIRN_STORAGE_TESTING_BLOB_STORE_CONFORMANCE_H_
