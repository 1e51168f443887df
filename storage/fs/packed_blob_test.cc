#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "storage/blob_packer.h"
#include "storage/fs/fs_blob_store.h"
#include "storage/fs/packed_blob.h"
#include "core/base/testing/temporary_directory.h"

namespace cairn::testing {
namespace {

namespace stdfs = std::filesystem;

const auto kGoOn = [] { return true; };

// Normally distributed weights, as BF16.
std::string Weights(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    bytes.push_back(static_cast<char>(bits >> 16));
    bytes.push_back(static_cast<char>(bits >> 24));
  }
  return bytes;
}

class PackedBlobTest : public ::testing::Test {
 protected:
  PackedBlobTest() : bytes_(Weights(300'001, 1)) {
    bytes_.push_back('x');  // no whole element
    Reopen();
    digest_ = *store_->Put(bytes_);
  }
  void Reopen() { store_ = *FsBlobStore::Open(directory_.path()); }
  std::string Path(const char* suffix = "") {
    const std::string hex = digest_.hex();
    return directory_ / ("blobs/" + hex.substr(0, 2) + "/" + hex + suffix);
  }
  void Pack() {
    auto outcome = store_->Pack(digest_, kGoOn);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_TRUE(outcome->is_packed);
  }
  absl::StatusOr<std::string> Read() {
    CAIRN_ASSIGN_OR_RETURN(auto source, store_->Open(digest_));
    return ReadAll(*source, 100 << 20);
  }
  void Flip(int64_t offset) {
    std::fstream file(Path(".packed"),
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const int was = file.get();
    file.seekp(offset);
    file.put(static_cast<char>(was ^ 4));
  }

  TemporaryDirectory directory_;
  std::unique_ptr<FsBlobStore> store_;
  std::string bytes_;
  Digest digest_;
};

TEST_F(PackedBlobTest, TakesLessAndReadsTheSame) {
  const absl::Time stored_at = store_->Stat(digest_)->stored_at;
  Pack();
  EXPECT_FALSE(stdfs::exists(Path()));
  auto stat = store_->Stat(digest_);
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->size_bytes, static_cast<int64_t>(bytes_.size()));
  EXPECT_LT(static_cast<double>(stat->stored_bytes),
            0.7 * static_cast<double>(bytes_.size()));
  EXPECT_EQ(stat->stored_at, stored_at);
  EXPECT_TRUE(*Read() == bytes_);
  Reopen();
  EXPECT_TRUE(*Read() == bytes_);
  int listed = 0;
  ASSERT_TRUE(store_
                  ->List([&](const BlobStat& one) {
                    EXPECT_EQ(one.stored_bytes, stat->stored_bytes);
                    EXPECT_EQ(one.size_bytes, stat->size_bytes);
                    ++listed;
                    return true;
                  })
                  .ok());
  EXPECT_EQ(listed, 1);
}

TEST_F(PackedBlobTest, ReadsAnyRange) {
  Pack();
  auto source = store_->Open(digest_);
  ASSERT_TRUE(source.ok());
  std::mt19937 random(7);
  std::string out;
  for (int i = 0; i < 300; ++i) {
    const size_t begin = random() % (bytes_.size() + 1);
    const size_t longest = i % 3 == 0 ? 100 : 400'000;
    out.resize(random() % (std::min(longest, bytes_.size() - begin) + 1));
    absl::Status read =
        (*source)->ReadAt(static_cast<int64_t>(begin), absl::MakeSpan(out));
    ASSERT_TRUE(read.ok()) << read;
    ASSERT_EQ(std::memcmp(out.data(), bytes_.data() + begin, out.size()), 0)
        << begin << " " << out.size();
  }
  out.resize(2);
  EXPECT_TRUE(absl::IsOutOfRange((*source)->ReadAt(
      static_cast<int64_t>(bytes_.size()) - 1, absl::MakeSpan(out))));
  EXPECT_TRUE(absl::IsOutOfRange((*source)->ReadAt(-1, absl::MakeSpan(out))));
}

TEST_F(PackedBlobTest, EveryChangedByteIsFoundAndNamesTheBlob) {
  Pack();
  const auto size = static_cast<int64_t>(stdfs::file_size(Path(".packed")));
  for (int64_t at = 0; at < size; at += at < 200 ? 1 : 4999) {
    Flip(at);
    auto read = Read();
    ASSERT_TRUE(absl::IsDataLoss(read.status())) << at << read.status();
    ASSERT_TRUE(absl::StrContains(read.status().message(), digest_.hex()));
    Flip(at);
  }
  EXPECT_TRUE(*Read() == bytes_);
  stdfs::resize_file(Path(".packed"), static_cast<size_t>(size) - 1);
  EXPECT_TRUE(absl::IsDataLoss(Read().status()));
  stdfs::resize_file(Path(".packed"), 10);
  EXPECT_TRUE(absl::IsDataLoss(Read().status()));
}

TEST_F(PackedBlobTest, DamagedHeaderHidesNeitherListNorRemoval) {
  Pack();
  Flip(3);
  EXPECT_TRUE(absl::IsDataLoss(store_->Stat(digest_).status()));
  int listed = 0;
  ASSERT_TRUE(store_->List([&](const BlobStat&) { return ++listed > 0; }).ok());
  EXPECT_EQ(listed, 1);
  auto removed = store_->RemoveIfOlder(digest_, absl::InfiniteFuture());
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_TRUE(*removed);
  EXPECT_TRUE(absl::IsNotFound(store_->Stat(digest_).status()));
}

TEST_F(PackedBlobTest, StoringAgainHealsIt) {
  Pack();
  Flip(5000);
  ASSERT_TRUE(store_->PutFrom(*MakeMemorySource(bytes_)).ok());
  EXPECT_FALSE(stdfs::exists(Path(".packed")));
  EXPECT_TRUE(*Read() == bytes_);
}

TEST_F(PackedBlobTest, WhatDoesNotPayStaysPlain) {
  std::string noise(1 << 20, '\0');
  std::mt19937_64 random(3);
  for (char& c : noise) c = static_cast<char>(random());
  for (const std::string& bytes : {noise, std::string("short")}) {
    Digest digest = *store_->Put(bytes);
    auto outcome = store_->Pack(digest, kGoOn);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_FALSE(outcome->is_packed);
    EXPECT_EQ(store_->Stat(digest)->stored_bytes,
              static_cast<int64_t>(bytes.size()));
  }
  EXPECT_TRUE(
      absl::IsNotFound(store_->Pack(Digest::Of("absent"), kGoOn).status()));
  EXPECT_TRUE(stdfs::is_empty(directory_ / "uploads"));
}

TEST_F(PackedBlobTest, InterruptedPackingLeavesThePlainBlob) {
  int left = 1;
  auto outcome = store_->Pack(digest_, [&] { return left-- > 0; });
  EXPECT_TRUE(absl::IsCancelled(outcome.status())) << outcome.status();
  EXPECT_TRUE(stdfs::exists(Path()));
  EXPECT_FALSE(stdfs::exists(Path(".packed")));
  EXPECT_TRUE(stdfs::is_empty(directory_ / "uploads"));
}

TEST_F(PackedBlobTest, ChangedPlainBlobIsNotPacked) {
  std::fstream(Path(), std::ios::in | std::ios::out | std::ios::binary) << "!";
  auto outcome = store_->Pack(digest_, kGoOn);
  EXPECT_TRUE(absl::IsDataLoss(outcome.status())) << outcome.status();
  EXPECT_TRUE(stdfs::exists(Path()));
}

TEST_F(PackedBlobTest, BothFormsAfterACrashAreOneBlob) {
  stdfs::copy_file(Path(), directory_ / "kept");
  Pack();
  stdfs::copy_file(directory_ / "kept", Path());
  EXPECT_TRUE(*Read() == bytes_);
  int listed = 0;
  ASSERT_TRUE(store_->List([&](const BlobStat&) { return ++listed > 0; }).ok());
  EXPECT_EQ(listed, 1);
  Pack();
  EXPECT_FALSE(stdfs::exists(Path()));
  EXPECT_TRUE(*Read() == bytes_);
  stdfs::copy_file(directory_ / "kept", Path());
  ASSERT_TRUE(store_->Remove(digest_).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->Open(digest_).status()));
}

TEST_F(PackedBlobTest, TouchKeepsAPackedBlob) {
  Pack();
  const absl::Time cutoff = absl::Now() + absl::Milliseconds(1);
  // File times come from a clock that may stand still for a tick.
  absl::SleepFor(absl::Milliseconds(50));
  ASSERT_TRUE(store_->Touch(digest_).ok());
  EXPECT_FALSE(*store_->RemoveIfOlder(digest_, cutoff));
  EXPECT_TRUE(*store_->RemoveIfOlder(digest_, absl::InfiniteFuture()));
}

TEST_F(PackedBlobTest, ReadersNoticeNothingWhileFormsChange) {
  std::atomic<bool> stop = false;
  std::atomic<int> reads = 0;
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      while (!stop) {
        auto read = Read();
        ++reads;
        if (!read.ok() || *read != bytes_) ++wrong;
        if (!store_->Stat(digest_).ok()) ++wrong;
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    Pack();
    ASSERT_TRUE(store_->PutFrom(*MakeMemorySource(bytes_)).ok());
  }
  stop = true;
  readers.clear();
  EXPECT_GT(reads, 0);
  EXPECT_EQ(wrong, 0);
}

TEST_F(PackedBlobTest, PackerGoesThroughTheStoreAtItsRate) {
  for (uint32_t i = 2; i < 8; ++i) {
    ASSERT_TRUE(store_->Put(Weights(300'000, i)).ok());
  }
  FakeClock clock(absl::Now() + absl::Hours(1));
  BlobPacker packer(*store_, *store_, clock, {.bytes_per_second = 600'000});
  int64_t packed = 0;
  int seconds = 0;
  for (; packed < 7 && seconds < 100; ++seconds) {
    auto tally = packer.Run(kGoOn);
    ASSERT_TRUE(tally.ok()) << tally.status();
    packed += tally->blobs_packed;
    clock.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(packed, 7);
  EXPECT_GE(seconds, 5);
  EXPECT_LE(seconds, 8);
  EXPECT_TRUE(*Read() == bytes_);
}

TEST_F(PackedBlobTest, PackerLeavesNewBlobsAlone) {
  FakeClock clock(absl::Now());
  BlobPacker packer(*store_, *store_, clock, {});
  EXPECT_EQ(packer.Run(kGoOn)->blobs_packed, 0);
  clock.Advance(absl::Minutes(11));
  EXPECT_EQ(packer.Run(kGoOn)->blobs_packed, 1);
}

}  // namespace
}  // namespace cairn::testing
