#include "server/flow/quota.h"

#include <gtest/gtest.h>

#include "core/base/digest.h"
#include "core/base/status_util.h"
#include "server/flow/blob_ownership.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

class QuotaTest : public ::testing::Test {
 protected:
  QuotaTest() {
    defaults_.user.set_stored_bytes(100);
    defaults_.user.set_open_uploads(2);
    defaults_.user.set_contributions_per_day(2);
    defaults_.organization.set_stored_bytes(150);
    defaults_.organization.set_open_uploads(3);
    defaults_.organization.set_contributions_per_day(3);
  }

  absl::Status Set(const std::string& name, const std::string& organization,
                   int64_t stored_bytes = 0) {
    v1::UpdateQuotaRequest request;
    request.set_name(name);
    request.set_organization(organization);
    request.mutable_overrides()->set_stored_bytes(stored_bytes);
    return store_.Transact([&](HubTransaction& transaction) {
      return SetQuota(transaction, request);
    });
  }
  void Own(const std::string& user, const std::string& bytes) {
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& transaction) {
                      return RecordOwner(transaction, user, Digest::Of(bytes),
                                         static_cast<int64_t>(bytes.size()));
                    })
                    .ok());
  }
  void OpenUpload(const std::string& id, const std::string& user,
                  const std::string& organization, int64_t size) {
    store::v1::UploadRecord record;
    record.set_name("uploads/" + id);
    record.set_user(user);
    record.set_organization(organization);
    record.set_size_bytes(size);
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& transaction) {
                      return transaction.Put(record);
                    })
                    .ok());
  }
  absl::Status Charge(const std::string& user) {
    return store_.Transact([&](HubTransaction& transaction) {
      return ChargeContribution(transaction, defaults_, user);
    });
  }
  absl::Status Store(const std::string& user, int64_t bytes) {
    return CheckStorage(store_.Read(), defaults_, user, bytes);
  }
  v1::Quota Describe(const std::string& name) {
    auto quota = DescribeQuota(store_.Read(), defaults_, name, clock_.Now());
    EXPECT_TRUE(quota.ok()) << quota.status();
    return quota.value_or(v1::Quota());
  }

  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  MemoryMetadataStore records_;
  HubStore store_{records_, clock_};
  QuotaDefaults defaults_;
};

TEST_F(QuotaTest, StoredBytesCountOnceAndOpenUploadsAreAnnounced) {
  Own("users/a", std::string(60, 'x'));
  Own("users/a", std::string(60, 'x'));
  EXPECT_EQ(Describe("users/a").used().stored_bytes(), 60);
  EXPECT_EQ(Describe("users/a").left().stored_bytes(), 40);
  EXPECT_TRUE(Store("users/a", 40).ok());
  EXPECT_FALSE(Store("users/a", 41).ok());
  OpenUpload("1", "users/a", "", 30);
  absl::Status status = Store("users/a", 11);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  auto reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->code, "QUOTA_EXCEEDED");
  EXPECT_EQ(reason->details.at("quota"), "stored_bytes");
  EXPECT_EQ(reason->details.at("limit"), "100");
  EXPECT_EQ(reason->details.at("used"), "90");
  EXPECT_EQ(reason->details.at("requested"), "11");
}

TEST_F(QuotaTest, ForgottenBlobsCountNoMore) {
  Own("users/a", std::string(60, 'x'));
  auto owned = store_.Read().ListAll<store::v1::BlobOwnerRecord>("users/a/");
  ASSERT_TRUE(owned.ok());
  ASSERT_TRUE(store_
                  .Transact([&](HubTransaction& transaction) {
                    return DropOwner(transaction, owned->at(0));
                  })
                  .ok());
  EXPECT_EQ(Describe("users/a").used().stored_bytes(), 0);
}

TEST_F(QuotaTest, AdministratorsLimitsWin) {
  ASSERT_TRUE(Set("users/a", "", 1000).ok());
  EXPECT_TRUE(Store("users/a", 1000).ok());
  EXPECT_EQ(Describe("users/a").limits().open_uploads(), 2);
  ASSERT_TRUE(Set("users/a", "", -1).ok());
  EXPECT_TRUE(Store("users/a", int64_t{1} << 50).ok());
  EXPECT_EQ(Describe("users/a").left().stored_bytes(), -1);
  EXPECT_TRUE(absl::IsInvalidArgument(Set("users/a", "", -2)));
}

TEST_F(QuotaTest, MembersShareWhatTheirOrganisationMay) {
  Own("users/a", std::string(90, 'a'));
  ASSERT_TRUE(Set("users/a", "organizations/lab").ok());
  ASSERT_TRUE(Set("users/b", "organizations/lab").ok());
  EXPECT_EQ(Describe("organizations/lab").used().stored_bytes(), 90);
  EXPECT_EQ(Describe("users/b").left().stored_bytes(), 60);
  absl::Status status = Store("users/b", 61);
  EXPECT_EQ(GetReason(status)->details.at("name"), "organizations/lab");
  Own("users/b", std::string(40, 'b'));
  EXPECT_EQ(Describe("organizations/lab").used().stored_bytes(), 130);
  ASSERT_TRUE(Set("users/a", "").ok());
  EXPECT_EQ(Describe("organizations/lab").used().stored_bytes(), 40);
}

TEST_F(QuotaTest, OpenUploadsAreLimitedForUserAndOrganisation) {
  const std::string lab = "organizations/lab";
  for (const char* user : {"users/a", "users/b", "users/c"}) {
    ASSERT_TRUE(Set(user, lab).ok());
    EXPECT_TRUE(CheckOpenUpload(store_.Read(), defaults_, user).ok());
    OpenUpload(user + 6, user, lab, 1);
  }
  absl::Status status = CheckOpenUpload(store_.Read(), defaults_, "users/a");
  EXPECT_EQ(GetReason(status)->details.at("name"), lab);
  EXPECT_EQ(Describe(lab).used().open_uploads(), 3);
}

TEST_F(QuotaTest, ContributionsAreCountedByDay) {
  EXPECT_TRUE(Charge("users/a").ok());
  EXPECT_TRUE(Charge("users/a").ok());
  absl::Status status = Charge("users/a");
  EXPECT_EQ(GetReason(status)->details.at("quota"), "contributions_per_day");
  EXPECT_EQ(Describe("users/a").left().contributions_per_day(), 0);
  clock_.Advance(absl::Hours(24));
  EXPECT_EQ(Describe("users/a").left().contributions_per_day(), 2);
  EXPECT_TRUE(Charge("users/a").ok());
}

TEST_F(QuotaTest, NamesAreChecked) {
  for (const char* name :
       {"", "a", "users/", "organizations/A b", "models/m"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Set(name, ""))) << name;
  }
  EXPECT_TRUE(
      absl::IsInvalidArgument(Set("organizations/a", "organizations/b")));
  EXPECT_TRUE(absl::IsInvalidArgument(Set("users/a", "users/b")));
}

}  // namespace
}  // namespace cairn
