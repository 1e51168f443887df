#include "server/setup/hub_setup.h"

#include <sys/stat.h>

#include <filesystem>

#include "core/base/file.h"
#include "core/base/testing/temporary_directory.h"
#include "core/release/release_document.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/auth/token_authority.h"
#include "server/setup/certificate_authority.h"
#include "server/setup/hub_keys.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Hands a store that outlives the set-up to it.
class BorrowedStore : public MetadataStore {
 public:
  explicit BorrowedStore(MetadataStore& store) : store_(store) {}
  std::unique_ptr<MetadataReader> Snapshot() const override {
    return store_.Snapshot();
  }
  absl::Status Transact(
      const std::function<absl::Status(MetadataTransaction&)>& fn) override {
    return store_.Transact(fn);
  }

 private:
  MetadataStore& store_;
};

class HubSetupTest : public ::testing::Test {
 protected:
  HubSetupTest() {
    options_.data_dir = root_ + "/hub";
    options_.open_store = [this](const std::string&) {
      return std::make_unique<BorrowedStore>(metadata_);
    };
  }

  static mode_t ModeOf(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 0777;
  }

  const testing::TemporaryDirectory scratch_;
  const std::string root_ = scratch_.path();
  MemoryMetadataStore metadata_;
  FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  HubSetupOptions options_;
};

TEST_F(HubSetupTest, MakesAHomeForTheFirstAdministrator) {
  auto made = InitHub(options_, clock_);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->admin_home, root_ + "/hub/admin");
  EXPECT_EQ(ModeOf(made->admin_home), 0700u);
  for (const char* secret :
       {"/admin/token", "/admin/key", "/keys/root.key", "/keys/release.key",
        "/tls/ca.key", "/tls/server.key"}) {
    EXPECT_EQ(ModeOf(root_ + "/hub" + secret), 0600u) << secret;
  }
  HubStore store(metadata_, clock_);
  auto caller = TokenAuthority(store).Identify(
      "Bearer " + *ReadFile(made->admin_home + "/token"));
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->role, v1::User::ADMINISTRATOR);
  EXPECT_EQ(caller->public_key.size(), 64u);
  EXPECT_THAT(*ReadFile(made->admin_home + "/config.yaml"),
              HasSubstr("root_fingerprint: " + made->root_fingerprint));
}

TEST_F(HubSetupTest, RefusesADirectoryThatHoldsSomething) {
  ASSERT_TRUE(InitHub(options_, clock_).ok());
  absl::Status again = InitHub(options_, clock_).status();
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(again.message()),
              HasSubstr("is a hub's data directory already"));
  options_.data_dir = root_ + "/other";
  fs::create_directories(options_.data_dir);
  ASSERT_TRUE(WriteFile(options_.data_dir + "/note", "x").ok());
  EXPECT_EQ(InitHub(options_, clock_).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(*ReadFile(options_.data_dir + "/note"), "x");
}

TEST_F(HubSetupTest, FailedSetUpLeavesNothing) {
  options_.names = {"not a host name"};
  EXPECT_EQ(InitHub(options_, clock_).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(HubSetupTest, KeysLoadWithoutTheRootKey) {
  auto made = InitHub(options_, clock_);
  ASSERT_TRUE(made.ok());
  fs::remove(made->root_key_file);
  auto keys = LoadHubKeys(options_.data_dir);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->hub_id, made->hub_id);
  EXPECT_EQ(keys->root_fingerprint, made->root_fingerprint);
  EXPECT_EQ(keys->root_fingerprint, RootFingerprint(keys->root_key));
  EXPECT_EQ(keys->delegation_end, clock_.Now() + kDelegationTtlDefault);
}

TEST_F(HubSetupTest, RootDelegatesANewReleaseKey) {
  auto made = InitHub(options_, clock_);
  ASSERT_TRUE(made.ok());
  std::string seed = ReadFile(made->root_key_file)->substr(0, 64);
  auto before = LoadHubKeys(options_.data_dir);
  clock_.Advance(absl::Hours(24));
  ASSERT_TRUE(RenewDelegation(options_.data_dir, *SigningKey::FromSeedHex(seed),
                              clock_.Now(), absl::Hours(1))
                  .ok());
  auto after = LoadHubKeys(options_.data_dir);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_NE(after->release_key.public_hex(), before->release_key.public_hex());
  EXPECT_EQ(after->delegation_end, clock_.Now() + absl::Hours(1));
  EXPECT_EQ(after->root_key, before->root_key);
  EXPECT_EQ(RenewDelegation(options_.data_dir, SigningKey::Generate(),
                            clock_.Now(), absl::Hours(1))
                .code(),
            absl::StatusCode::kPermissionDenied);
}

TEST_F(HubSetupTest, RenewsTheServersCertificateUnderTheSameAuthority) {
  ASSERT_TRUE(InitHub(options_, clock_).ok());
  std::string tls = options_.data_dir + "/tls";
  std::string ca = *ReadFile(tls + "/ca.pem");
  auto before = CertificateExpiry(*ReadFile(tls + "/server.pem"));
  clock_.Advance(absl::Hours(24 * 700));
  ASSERT_TRUE(RenewServerCertificate(options_.data_dir, {"hub.example.org"},
                                     clock_.Now())
                  .ok());
  auto after = CertificateExpiry(*ReadFile(tls + "/server.pem"));
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(*after - *before, absl::Hours(24 * 700));
  EXPECT_EQ(*ReadFile(tls + "/ca.pem"), ca);
  EXPECT_EQ(ModeOf(tls + "/server.key"), 0600u);
  EXPECT_EQ(RenewServerCertificate(root_, {"x"}, clock_.Now()).code(),
            absl::StatusCode::kNotFound);
}

TEST_F(HubSetupTest, KeysThatDoNotFitEachOtherAreDataLoss) {
  ASSERT_TRUE(InitHub(options_, clock_).ok());
  std::string keys = options_.data_dir + "/keys/";
  ASSERT_TRUE(
      WriteFile(keys + "release.key", SigningKey::Generate().seed_hex()).ok());
  EXPECT_EQ(LoadHubKeys(options_.data_dir).status().code(),
            absl::StatusCode::kDataLoss);
  ASSERT_TRUE(WriteFile(keys + "hub.json", "{").ok());
  EXPECT_EQ(LoadHubKeys(options_.data_dir).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(LoadHubKeys(root_).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cairn
