#include "server/ops/store_check.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoreCheckTest : public ::testing::Test {
 protected:
  template <class Record>
  void Put(Record record) {
    absl::Status put =
        store_.Transact([&](HubTransaction& txn) { return txn.Put(record); });
    ASSERT_TRUE(put.ok()) << put;
  }
  void PutModel() {
    store::v1::ModelRecord record;
    record.mutable_model()->set_name("models/m");
    Put(record);
  }
  void PutTag(const std::string& release) {
    store::v1::TagRecord record;
    record.mutable_tag()->set_name("models/m/tags/latest");
    record.mutable_tag()->set_release(release);
    Put(record);
  }
  std::vector<std::string> Problems() {
    auto response = CheckStore(store_.Read(), blobs_, BlobCheck::kContent);
    EXPECT_TRUE(response.ok()) << response.status();
    return {response->problems().begin(), response->problems().end()};
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_;
  HubStore store_{metadata_, clock_};
  MemoryBlobStore blobs_{clock_};
};

TEST_F(StoreCheckTest, EmptyStoreIsSound) {
  EXPECT_THAT(Problems(), IsEmpty());
}

TEST_F(StoreCheckTest, MissingRecordsAreNamed) {
  PutModel();
  EXPECT_THAT(Problems(), ElementsAre("models/m: head names "
                                      "models/m/tags/latest, which does not "
                                      "exist"));
  PutTag("models/m/releases/v1.0.0");
  EXPECT_THAT(Problems(),
              ElementsAre("models/m/tags/latest: release names "
                          "models/m/releases/v1.0.0, which does not exist"));
}

TEST_F(StoreCheckTest, MissingAndShortBlobsAreNamed) {
  store::v1::SuiteRecord record;
  record.mutable_suite()->set_name("models/m/suites/s");
  record.mutable_suite()->set_version(1);
  record.mutable_suite()->set_state(v1::Suite::CHECKING);
  Digest there = *blobs_.Put("bytes");
  v1::File* file = record.add_files();
  file->set_path("suite.yaml");
  file->set_sha256(there.hex());
  file->set_size_bytes(5);
  Put(record);
  EXPECT_THAT(Problems(), IsEmpty());
  record.mutable_files(0)->set_size_bytes(6);
  Put(record);
  EXPECT_THAT(Problems(), Contains(HasSubstr("has 5 bytes and not 6")));
  record.mutable_files(0)->set_sha256(std::string(64, 'a'));
  Put(record);
  EXPECT_THAT(Problems(), Contains(HasSubstr(std::string(64, 'a'))));
  record.mutable_files(0)->set_sha256("nonsense");
  Put(record);
  EXPECT_THAT(Problems(), Contains(HasSubstr("'nonsense' is not a SHA-256")));
}

TEST_F(StoreCheckTest, RecordThatCannotBeReadIsAProblemNotTheEnd) {
  PutModel();
  PutTag("models/m/releases/v1.0.0");
  ASSERT_TRUE(metadata_
                  .Transact([](MetadataTransaction& txn) {
                    txn.Put("t/user/users/broken", "\xff\xff\xff");
                    return absl::OkStatus();
                  })
                  .ok());
  auto problems = Problems();
  EXPECT_THAT(problems, Contains(HasSubstr("users/broken")));
  EXPECT_THAT(problems, Contains(HasSubstr("models/m/tags/latest")));
}

}  // namespace
}  // namespace cairn
