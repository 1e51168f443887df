#include "storage/rocksdb/rocksdb_metadata_store.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <filesystem>
#include <fstream>

#include "core/base/log.h"
#include "storage/testing/metadata_store_conformance.h"
#include "core/base/testing/temporary_directory.h"

namespace cairn::testing {
namespace {

namespace stdfs = std::filesystem;

class RocksMetadata : public MetadataStoreHarness {
 public:
  RocksMetadata() { Reopen(); }
  MetadataStore& store() override { return *store_; }
  bool Reopen() override {
    store_.reset();
    auto opened = RocksMetadataStore::Open(directory_ / "meta");
    CAIRN_CHECK(opened.ok());
    store_ = *std::move(opened);
    return true;
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<RocksMetadataStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Rocks, MetadataStoreConformance, ::testing::Values([] {
                           return std::make_unique<RocksMetadata>();
                         }));

class RocksMetadataStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<RocksMetadataStore> Open() {
    auto opened = RocksMetadataStore::Open(directory_.path());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : nullptr;
  }
  static absl::Status Put(MetadataStore& store, const std::string& key,
                          const std::string& value) {
    return store.Transact([&](MetadataTransaction& txn) {
      txn.Put(key, value);
      return absl::OkStatus();
    });
  }
  // The file of the directory with this suffix.
  stdfs::path FileWith(const std::string& suffix) {
    for (const auto& entry : stdfs::directory_iterator(directory_.path())) {
      if (entry.path().extension() == suffix) return entry.path();
    }
    return {};
  }

  TemporaryDirectory directory_;
};

TEST_F(RocksMetadataStoreTest, SecondOpenIsRefusedClearly) {
  auto store = Open();
  auto second = RocksMetadataStore::Open(directory_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()),
              ::testing::HasSubstr("another process"));
}

TEST_F(RocksMetadataStoreTest, NewerSchemaIsRefused) {
  Open();
  {
    std::vector<rocksdb::ColumnFamilyDescriptor> families = {
        {rocksdb::kDefaultColumnFamilyName, {}}, {"cairn.system", {}}};
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(
        rocksdb::DB::Open({}, directory_.path(), families, &handles, &db).ok());
    ASSERT_TRUE(db->Put({}, handles[1], "schema_version", "99").ok());
    for (auto* handle : handles) {
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
    delete db;
  }
  auto reopened = RocksMetadataStore::Open(directory_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(reopened.status()))
      << reopened.status();
  EXPECT_THAT(std::string(reopened.status().message()),
              ::testing::HasSubstr("schema version 99"));
}

// Version 2 adds "!" to every value, version 3 "?".
Schema Marking(int version) {
  Schema schema;
  for (const char* mark : {"!", "?"}) {
    schema.steps.push_back(
        {.what = mark, .apply = [mark](MetadataTransaction& txn) {
           auto rows = txn.Scan("", "", 100);
           for (const KeyValue& row : *rows) txn.Put(row.key, row.value + mark);
           return absl::OkStatus();
         }});
  }
  schema.steps.resize(static_cast<size_t>(version) - 1);
  return schema;
}

TEST_F(RocksMetadataStoreTest, OlderStoreIsBroughtForwardOnce) {
  ASSERT_TRUE(Put(*Open(), "a", "1").ok());
  for (int version : {1, 2, 2, 3, 3}) {
    auto store = RocksMetadataStore::Open(directory_.path(), Marking(version));
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ(*(*store)->Snapshot()->Get("a"),
              std::string("1!?").substr(0, static_cast<size_t>(version)));
  }
  auto older = RocksMetadataStore::Open(directory_.path(), Marking(2));
  EXPECT_TRUE(absl::IsFailedPrecondition(older.status())) << older.status();
}

TEST_F(RocksMetadataStoreTest, SeveralStepsAreMadeInOrder) {
  ASSERT_TRUE(Put(*Open(), "a", "1").ok());
  auto store = RocksMetadataStore::Open(directory_.path(), Marking(3));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(*(*store)->Snapshot()->Get("a"), "1!?");
}

TEST_F(RocksMetadataStoreTest, NewStoreHasTheNewestVersionAndTakesNoStep) {
  { ASSERT_TRUE(RocksMetadataStore::Open(directory_.path(), Marking(3)).ok()); }
  auto older = RocksMetadataStore::Open(directory_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(older.status())) << older.status();
}

TEST_F(RocksMetadataStoreTest, FailedStepLeavesTheStoreAsItWas) {
  ASSERT_TRUE(Put(*Open(), "a", "1").ok());
  Schema schema = Marking(2);
  schema.steps.push_back({.what = "break", .apply = [](MetadataTransaction& t) {
                            t.Put("a", "broken");
                            return absl::InternalError("planned");
                          }});
  auto store = RocksMetadataStore::Open(directory_.path(), schema);
  EXPECT_TRUE(absl::IsInternal(store.status())) << store.status();
  EXPECT_THAT(std::string(store.status().message()),
              ::testing::HasSubstr("schema version 3 (break)"));
  store = RocksMetadataStore::Open(directory_.path(), Marking(2));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(*(*store)->Snapshot()->Get("a"), "1!");
}

TEST_F(RocksMetadataStoreTest, TornLastWriteIsDroppedAndTheRestKept) {
  auto store = Open();
  ASSERT_TRUE(Put(*store, "a", "1").ok());
  ASSERT_TRUE(Put(*store, "b", std::string(1000, 'b')).ok());
  store.reset();
  stdfs::path log = FileWith(".log");
  ASSERT_FALSE(log.empty());
  stdfs::resize_file(log, stdfs::file_size(log) - 300);
  store = Open();
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(*store->Snapshot()->Get("a"), "1");
  EXPECT_EQ(*store->Snapshot()->Get("b"), std::nullopt);
}

TEST_F(RocksMetadataStoreTest, DamageInTheMiddleOfTheLogIsDataLoss) {
  auto store = Open();
  ASSERT_TRUE(Put(*store, "a", std::string(1000, 'a')).ok());
  ASSERT_TRUE(Put(*store, "b", std::string(1000, 'b')).ok());
  store.reset();
  stdfs::path log = FileWith(".log");
  ASSERT_FALSE(log.empty());
  std::fstream file(log, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(500);
  file.put('?');
  file.close();
  auto reopened = RocksMetadataStore::Open(directory_.path());
  EXPECT_TRUE(absl::IsDataLoss(reopened.status())) << reopened.status();
}

TEST_F(RocksMetadataStoreTest, BackupOpensAsAStoreOfItsMoment) {
  auto store = Open();
  ASSERT_TRUE(Put(*store, "a", "1").ok());
  TemporaryDirectory other;
  absl::Status status = store->Backup(other / "copy");
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(Put(*store, "a", "2").ok());
  auto copy = RocksMetadataStore::Open(other / "copy");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(*(*copy)->Snapshot()->Get("a"), "1");
}

}  // namespace
}  // namespace cairn::testing
