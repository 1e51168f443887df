#include "server/auth/permission.h"

#include <map>
#include <set>

#include "core/base/status_util.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using P = Permission;

// The table of README.md a second time, role by role.
const std::map<v1::User::Role, std::set<P>>& Expected() {
  static const auto* const kTable = new std::map<v1::User::Role, std::set<P>>{
      {v1::User::ROLE_UNSPECIFIED, {}},
      {v1::User::READER, {P::kRead, P::kPull}},
      {v1::User::CONTRIBUTOR,
       {P::kRead, P::kPull, P::kUpload, P::kPush, P::kComment}},
      {v1::User::REVIEWER,
       {P::kRead, P::kPull, P::kUpload, P::kPush, P::kComment, P::kReview,
        P::kReplay}},
      {v1::User::MAINTAINER,
       {P::kRead, P::kPull, P::kUpload, P::kPush, P::kComment, P::kReview,
        P::kReplay, P::kManageQueue, P::kManageBatches, P::kManageModels,
        P::kManageSuites, P::kManageReleases, P::kCheckStore, P::kListUsers}},
      {v1::User::WORKER, {P::kPull, P::kUpload, P::kWork}},
      {v1::User::ADMINISTRATOR,
       {P::kRead, P::kPull, P::kCheckStore, P::kBackup, P::kListUsers,
        P::kManageUsers}},
  };
  return *kTable;
}

TEST(PermissionTest, EveryRoleHasExactlyItsPermissions) {
  for (const auto& [role, permissions] : Expected()) {
    for (Permission permission : AllPermissions()) {
      EXPECT_EQ(RoleAllows(role, permission), permissions.contains(permission))
          << v1::User::Role_Name(role) << ": " << PermissionText(permission);
      Caller caller{.user = "users/u", .role = role};
      EXPECT_EQ(Authorize(caller, permission, "models/m").ok(),
                permissions.contains(permission));
    }
  }
}

TEST(PermissionTest, TableIsIndexedByPermission) {
  for (size_t i = 0; i < AllPermissions().size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(AllPermissions()[i]), i);
  }
  EXPECT_EQ(AllPermissions().size(), static_cast<size_t>(P::kWork) + 1);
}

TEST(PermissionTest, AnonymousIsUnauthenticatedWhateverItAsks) {
  for (Permission permission : AllPermissions()) {
    EXPECT_EQ(Authorize(Caller(), permission, "models/m").code(),
              absl::StatusCode::kUnauthenticated);
  }
}

TEST(PermissionTest, RoleForOneModelEndsThere) {
  Caller chief{
      .user = "users/chief", .role = v1::User::MAINTAINER, .model = "models/m"};
  EXPECT_TRUE(Authorize(chief, P::kManageReleases, "models/m").ok());
  for (absl::string_view elsewhere : {"models/other", "models/m2", ""}) {
    absl::Status status = Authorize(chief, P::kManageReleases, elsewhere);
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_EQ(GetReason(status)->code, "NOT_PERMITTED");
  }
}

TEST(PermissionTest, RefusalNamesWhoAndWhat) {
  Caller reader{.user = "users/eve", .role = v1::User::READER};
  EXPECT_EQ(Authorize(reader, P::kManageBatches, "models/m").message(),
            "users/eve is a reader and may not start batches");
}

class PublicModelTest : public ::testing::Test {
 protected:
  void MakeModel(bool is_public) {
    store::v1::ModelRecord record;
    record.mutable_model()->set_name("models/m");
    record.mutable_model()->mutable_policy()->set_public_(is_public);
    ASSERT_TRUE(
        store_.Transact([&](HubTransaction& txn) { return txn.Put(record); })
            .ok());
  }
  absl::StatusCode Read(const Caller& caller, Permission permission) {
    return AuthorizeRead(store_.Read(), caller, permission, "models/m").code();
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_;
  HubStore store_{metadata_, clock_};
};

TEST_F(PublicModelTest, AnybodyReadsAPublicModel) {
  MakeModel(true);
  Caller elsewhere{
      .user = "users/x", .role = v1::User::READER, .model = "models/other"};
  EXPECT_EQ(Read(Caller(), P::kRead), absl::StatusCode::kOk);
  EXPECT_EQ(Read(Caller(), P::kPull), absl::StatusCode::kOk);
  EXPECT_EQ(Read(elsewhere, P::kPull), absl::StatusCode::kOk);
}

TEST_F(PublicModelTest, NobodyUnknownReadsAnyOther) {
  EXPECT_EQ(Read(Caller(), P::kRead), absl::StatusCode::kUnauthenticated);
  MakeModel(false);
  EXPECT_EQ(Read(Caller(), P::kRead), absl::StatusCode::kUnauthenticated);
}

}  // namespace
}  // namespace cairn
