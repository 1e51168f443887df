#ifndef CAIRN_STORAGE_TESTING_METADATA_STORE_CONFORMANCE_H_
#define CAIRN_STORAGE_TESTING_METADATA_STORE_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "storage/metadata_store.h"

// What every MetadataStore must do. A backend's test includes this file and
// instantiates MetadataStoreConformance with a maker of its harness.
namespace cairn::testing {

// A store under test.
class MetadataStoreHarness {
 public:
  virtual ~MetadataStoreHarness() = default;
  virtual MetadataStore& store() = 0;
  // Ends the store and opens it again; false when it keeps nothing.
  virtual bool Reopen() = 0;
};

using MetadataStoreMaker =
    std::function<std::unique_ptr<MetadataStoreHarness>()>;

class MetadataStoreConformance
    : public ::testing::TestWithParam<MetadataStoreMaker> {
 protected:
  MetadataStore& store() { return harness_->store(); }

  absl::Status Put(const std::string& key, const std::string& value) {
    return store().Transact([&](MetadataTransaction& txn) {
      txn.Put(key, value);
      return absl::OkStatus();
    });
  }
  std::optional<std::string> Get(const std::string& key) {
    auto value = store().Snapshot()->Get(key);
    EXPECT_TRUE(value.ok()) << value.status();
    return value.ok() ? *value : std::nullopt;
  }
  static std::vector<std::string> Keys(const MetadataReader& reader,
                                       const std::string& begin,
                                       const std::string& end,
                                       size_t limit = 100) {
    auto rows = reader.Scan(begin, end, limit);
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::vector<std::string> keys;
    if (rows.ok()) {
      for (const KeyValue& row : *rows) keys.push_back(row.key);
    }
    return keys;
  }

  std::unique_ptr<MetadataStoreHarness> harness_ = GetParam()();
};

TEST_P(MetadataStoreConformance, AbsentKeyIsNullopt) {
  EXPECT_EQ(Get("nothing"), std::nullopt);
}

TEST_P(MetadataStoreConformance, KeepsBytesOfAnyKind) {
  const std::string key("a\0\xff", 3);
  const std::string value("\0\n\xff", 3);
  ASSERT_TRUE(Put(key, value).ok());
  EXPECT_EQ(Get(key), value);
  ASSERT_TRUE(Put("empty", "").ok());
  EXPECT_EQ(Get("empty"), "");
}

TEST_P(MetadataStoreConformance, NothingIsWrittenWhenTheFunctionFails) {
  absl::Status status = store().Transact([](MetadataTransaction& txn) {
    txn.Put("a", "1");
    return absl::AbortedError("changed my mind");
  });
  EXPECT_EQ(status, absl::AbortedError("changed my mind"));
  EXPECT_EQ(Get("a"), std::nullopt);
}

TEST_P(MetadataStoreConformance, TransactionReadsItsOwnWrites) {
  ASSERT_TRUE(Put("b", "old").ok());
  absl::Status status =
      store().Transact([](MetadataTransaction& txn) -> absl::Status {
        txn.Put("a", "1");
        txn.Put("b", "new");
        txn.Put("c", "1");
        txn.Delete("c");
        CAIRN_ASSIGN_OR_RETURN(auto b, txn.Get("b"));
        EXPECT_EQ(b, "new");
        CAIRN_ASSIGN_OR_RETURN(auto c, txn.Get("c"));
        EXPECT_EQ(c, std::nullopt);
        EXPECT_THAT(Keys(txn, "", ""), ::testing::ElementsAre("a", "b"));
        txn.Delete("b");
        EXPECT_THAT(Keys(txn, "", ""), ::testing::ElementsAre("a"));
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(Keys(*store().Snapshot(), "", ""), ::testing::ElementsAre("a"));
}

TEST_P(MetadataStoreConformance, ScansHalfOpenRangesInByteOrder) {
  const std::vector<std::string> keys = {"b", "a", "ab", "\xff", "aa", "c"};
  for (const std::string& key : keys) ASSERT_TRUE(Put(key, "x").ok());
  auto reader = store().Snapshot();
  EXPECT_THAT(Keys(*reader, "", ""),
              ::testing::ElementsAre("a", "aa", "ab", "b", "c", "\xff"));
  EXPECT_THAT(Keys(*reader, "aa", "b"), ::testing::ElementsAre("aa", "ab"));
  EXPECT_THAT(Keys(*reader, "a", PrefixEnd("a")),
              ::testing::ElementsAre("a", "aa", "ab"));
  EXPECT_THAT(Keys(*reader, "a", "", 2), ::testing::ElementsAre("a", "aa"));
  EXPECT_THAT(Keys(*reader, "a", "", 0), ::testing::IsEmpty());
  EXPECT_THAT(Keys(*reader, "d", "e"), ::testing::IsEmpty());
}

TEST_P(MetadataStoreConformance, SnapshotDoesNotSeeLaterWrites) {
  ASSERT_TRUE(Put("a", "1").ok());
  auto before = store().Snapshot();
  ASSERT_TRUE(Put("a", "2").ok());
  ASSERT_TRUE(Put("b", "2").ok());
  EXPECT_EQ(*before->Get("a"), "1");
  EXPECT_THAT(Keys(*before, "", ""), ::testing::ElementsAre("a"));
  EXPECT_EQ(Get("a"), "2");
}

TEST_P(MetadataStoreConformance, ConcurrentIncrementsAreAllCounted) {
  constexpr int kThreads = 4;
  constexpr int kEach = 25;
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < kEach; ++i) {
        absl::Status status =
            store().Transact([](MetadataTransaction& txn) -> absl::Status {
              CAIRN_ASSIGN_OR_RETURN(auto text, txn.Get("n"));
              int n = 0;
              if (text.has_value() && !absl::SimpleAtoi(*text, &n)) {
                return absl::DataLossError(*text);
              }
              txn.Put("n", absl::StrCat(n + 1));
              return absl::OkStatus();
            });
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(Get("n"), absl::StrCat(kThreads * kEach));
}

TEST_P(MetadataStoreConformance, CommittedWritesSurviveReopening) {
  ASSERT_TRUE(Put("a", "1").ok());
  if (!harness_->Reopen()) GTEST_SKIP() << "keeps nothing";
  EXPECT_EQ(Get("a"), "1");
  EXPECT_THAT(Keys(*store().Snapshot(), "", ""), ::testing::ElementsAre("a"));
}

}  // namespace cairn::testing

#endif  // CAIRN_STORAGE_TESTING_METADATA_STORE_CONFORMANCE_H_
