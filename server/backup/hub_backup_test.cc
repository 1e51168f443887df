#include "server/backup/hub_backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "cairn/store/v1/upload.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/testing/temporary_directory.h"
#include "server/backup/hub_restore.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/schema.h"
#include "server/setup/hub_setup.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class HubBackupTest : public ::testing::Test {
 protected:
  HubBackupTest() {
    HubSetupOptions options{
        .data_dir = data_dir_,
        .open_store = [](const std::string& directory)
            -> absl::StatusOr<std::unique_ptr<MetadataStore>> {
          return RocksMetadataStore::Open(directory, HubSchema());
        }};
    EXPECT_TRUE(InitHub(options, clock_).ok());
    metadata_ =
        *RocksMetadataStore::Open(MetadataDirectory(data_dir_), HubSchema());
    blobs_ = *FsBlobStore::Open(BlobDirectory(data_dir_));
    store_ = std::make_unique<HubStore>(*metadata_, clock_);
    backup_ = std::make_unique<HubBackup>(data_dir_, *metadata_, *blobs_,
                                          sweeps_, clock_);
  }

  // A model's first release, of one file.
  Digest PutRelease(const std::string& model, const std::string& bytes) {
    const Digest digest = *blobs_->Put(bytes);
    const std::string name = "models/" + model;
    store::v1::ModelRecord record;
    record.mutable_model()->set_name(name);
    store::v1::ReleaseRecord release;
    release.mutable_release()->set_name(name + "/releases/v1.0.0");
    release.mutable_release()->add_files();
    release.mutable_release()->set_tensor_manifest_sha256(digest.hex());
    auto& segment = *release.add_files()->add_segments();
    segment.set_sha256(digest.hex());
    segment.set_size_bytes(static_cast<int64_t>(bytes.size()));
    release.mutable_release()->set_manifest_digest(Digest::Of("").prefixed());
    store::v1::TagRecord tag;
    tag.mutable_tag()->set_name(name + "/tags/latest");
    tag.mutable_tag()->set_release(release.release().name());
    absl::Status put = store_->Transact([&](HubTransaction& txn) {
      EXPECT_TRUE(txn.Put(record).ok());
      EXPECT_TRUE(txn.Put(release).ok());
      return txn.Put(tag);
    });
    EXPECT_TRUE(put.ok()) << put;
    return digest;
  }
  v1::BackupReport Make(int keep = 0) {
    clock_.Advance(absl::Seconds(1));
    v1::BackupRequest request;
    request.set_directory(target_);
    request.set_keep(keep);
    auto report = backup_->Make(request);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : v1::BackupReport();
  }
  absl::StatusOr<RestoreReport> Restore(const std::string& snapshot = "") {
    return RestoreHub({.backup = target_,
                       .snapshot = snapshot,
                       .data_dir = root_ + "/restored"},
                      clock_);
  }
  std::string BackedUp(const Digest& digest) {
    const std::string hex = digest.hex();
    return absl::StrCat(target_, "/blobs/", hex.substr(0, 2), "/", hex);
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  const testing::TemporaryDirectory scratch_;
  const std::string root_ = scratch_.path();
  const std::string data_dir_ = root_ + "/hub";
  const std::string target_ = root_ + "/backup";
  std::unique_ptr<RocksMetadataStore> metadata_;
  std::unique_ptr<FsBlobStore> blobs_;
  std::unique_ptr<HubStore> store_;
  SweepGate sweeps_;
  std::unique_ptr<HubBackup> backup_;
};

TEST_F(HubBackupTest, RestoresTheHubOfTheMoment) {
  const Digest digest = PutRelease("m", "weights");
  ASSERT_TRUE(blobs_->Put("named by nothing").ok());
  store::v1::UploadRecord upload;
  upload.set_name("uploads/u1");
  upload.set_user("users/admin");
  ASSERT_TRUE(
      store_->Transact([&](HubTransaction& t) { return t.Put(upload); }).ok());
  v1::BackupReport report = Make();
  EXPECT_EQ(report.blobs(), 1);
  EXPECT_EQ(report.new_blobs(), 1);
  PutRelease("later", "other weights");

  auto restored = Restore();
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->blobs, 1);
  const std::string dir = root_ + "/restored";
  auto metadata = RocksMetadataStore::Open(dir + "/metadata", HubSchema());
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  HubStore store(**metadata, clock_);
  HubSnapshot snapshot = store.Read();
  EXPECT_TRUE(snapshot.Get<store::v1::ModelRecord>("models/m").ok());
  EXPECT_FALSE(
      snapshot.Find<store::v1::ModelRecord>("models/later")->has_value());
  EXPECT_FALSE(
      snapshot.Find<store::v1::UploadRecord>("uploads/u1")->has_value());
  auto blobs = FsBlobStore::Open(BlobDirectory(dir));
  EXPECT_EQ(*ReadAll(**(*blobs)->Open(digest), 100), "weights");
  for (const char* file : {"/tls/server.key", "/keys/release.key"}) {
    EXPECT_EQ(*ReadFile(dir + file), *ReadFile(data_dir_ + file));
    EXPECT_EQ(fs::status(dir + file).permissions(),
              fs::status(data_dir_ + file).permissions());
  }
  EXPECT_TRUE(fs::exists(dir + "/admin/token"));
  EXPECT_NE(*ReadFile(dir + "/admin/token"),
            *ReadFile(data_dir_ + "/admin/token"));
}

TEST_F(HubBackupTest, LeavesOutTheAdministratorAndTheRootKey) {
  PutRelease("m", "weights");
  Make();
  for (const auto& entry : fs::recursive_directory_iterator(target_)) {
    EXPECT_NE(entry.path().filename(), "root.key");
    EXPECT_NE(entry.path().filename(), "admin");
  }
}

TEST_F(HubBackupTest, AddsOnlyWhatIsNewAndPrunesOldSnapshots) {
  const Digest first = PutRelease("m", "weights");
  const std::string old = Make().snapshot();
  store::v1::ReleaseRecord gone;
  ASSERT_TRUE(store_
                  ->Transact([&](HubTransaction& txn) {
                    return txn.Delete<store::v1::ReleaseRecord>(
                        "models/m/releases/v1.0.0");
                  })
                  .ok());
  const Digest second = PutRelease("n", "more weights");
  v1::BackupReport report = Make();
  EXPECT_EQ(report.blobs(), 1);
  EXPECT_EQ(report.new_blobs(), 1);
  EXPECT_EQ(Make().new_blobs(), 0);
  EXPECT_TRUE(fs::exists(BackedUp(first)));
  report = Make(2);
  EXPECT_EQ(report.removed_snapshots_size(), 2);
  EXPECT_EQ(report.removed_snapshots(0), old);
  EXPECT_FALSE(fs::exists(BackedUp(first)));
  EXPECT_TRUE(fs::exists(BackedUp(second)));
}

TEST_F(HubBackupTest, RefusesPlacesThatAreNotItsOwn) {
  fs::create_directories(root_ + "/full/of");
  for (const std::string& place :
       {std::string("relative"), data_dir_, data_dir_ + "/backup", root_,
        root_ + "/full"}) {
    v1::BackupRequest request;
    request.set_directory(place);
    auto report = backup_->Make(request);
    EXPECT_TRUE(absl::IsInvalidArgument(report.status()) ||
                absl::IsFailedPrecondition(report.status()))
        << place << report.status();
  }
}

TEST_F(HubBackupTest, MissingBlobFailsAndLeavesNoSnapshot) {
  const Digest digest = PutRelease("m", "weights");
  ASSERT_TRUE(blobs_->Remove(digest).ok());
  v1::BackupRequest request;
  request.set_directory(target_);
  auto report = backup_->Make(request);
  EXPECT_TRUE(absl::IsDataLoss(report.status())) << report.status();
  EXPECT_THAT(std::string(report.status().message()), HasSubstr(digest.hex()));
  EXPECT_TRUE(fs::is_empty(target_ + "/snapshots"));
  EXPECT_TRUE(absl::IsNotFound(Restore().status()));
}

TEST_F(HubBackupTest, RestoreFindsDamageAndLeavesNothing) {
  const Digest digest = PutRelease("m", "weights");
  Make();
  fs::remove(BackedUp(digest));
  std::ofstream(BackedUp(digest)) << "weighty";
  auto restored = Restore();
  EXPECT_TRUE(absl::IsDataLoss(restored.status())) << restored.status();
  EXPECT_THAT(std::string(restored.status().message()),
              HasSubstr(digest.hex()));
  EXPECT_FALSE(fs::exists(root_ + "/restored"));
  for (const auto& entry : fs::directory_iterator(root_)) {
    EXPECT_EQ(entry.path().string().find(".restore-"), std::string::npos);
  }
}

TEST_F(HubBackupTest, RestoreWritesOverNothing) {
  PutRelease("m", "weights");
  Make();
  fs::create_directories(root_ + "/restored");
  std::ofstream(root_ + "/restored/file") << "mine";
  EXPECT_TRUE(absl::IsAlreadyExists(Restore().status()));
  EXPECT_TRUE(absl::IsNotFound(Restore("2001-01-01").status()) ||
              absl::IsAlreadyExists(Restore("2001-01-01").status()));
  fs::remove(root_ + "/restored/file");
  EXPECT_TRUE(absl::IsNotFound(Restore("2001-01-01").status()));
  EXPECT_TRUE(Restore().ok()) << "an empty directory will do";
}

}  // namespace
}  // namespace cairn
