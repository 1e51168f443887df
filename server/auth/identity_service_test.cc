#include "server/auth/identity_service.h"

#include "core/base/ed25519.h"
#include "core/base/status_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr char kHub[] = "hub-1";

v1::CreateUserRequest NewUser(absl::string_view id, v1::User::Role role,
                              absl::string_view model = "",
                              std::vector<std::string> trust = {}) {
  v1::CreateUserRequest request;
  request.set_user_id(std::string(id));
  request.mutable_user()->set_role(role);
  request.mutable_user()->set_model(std::string(model));
  for (auto& kind : trust) request.mutable_user()->add_trust(kind);
  return request;
}

class IdentityServiceTest : public ::testing::Test {
 protected:
  v1::RegisterKeyRequest Registration(const SigningKey& key,
                                      absl::string_view user) {
    v1::RegisterKeyRequest request;
    request.set_public_key(key.public_hex());
    request.set_proof(key.Sign(kRegisterDomain, RegistrationText(kHub, user)));
    return request;
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  HubStore store_{metadata_, clock_};
  IdentityService service_{store_, kHub};
  const Caller admin_{.user = "users/admin", .role = v1::User::ADMINISTRATOR};
  const Caller ada_{.user = "users/ada", .role = v1::User::CONTRIBUTOR};
};

TEST_F(IdentityServiceTest, CreatesAUserOnceAndAnswersARepeatAlike) {
  auto request = NewUser("ada", v1::User::CONTRIBUTOR);
  auto first = service_.CreateUser(admin_, request);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->name(), "users/ada");
  EXPECT_FALSE(first->etag().empty());
  clock_.Advance(absl::Hours(1));
  auto again = service_.CreateUser(admin_, request);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->SerializeAsString(), first->SerializeAsString());
  auto other =
      service_.CreateUser(admin_, NewUser("ada", v1::User::MAINTAINER));
  EXPECT_EQ(other.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(other.status().message()),
              HasSubstr("users/ada exists already as CONTRIBUTOR"));
}

TEST_F(IdentityServiceTest, WorkersAreTrustedWithBothKindsByDefault) {
  auto worker = service_.CreateUser(admin_, NewUser("w", v1::User::WORKER));
  ASSERT_TRUE(worker.ok());
  EXPECT_THAT(worker->trust(), ::testing::ElementsAre("evaluate", "merge"));
  auto merger = service_.CreateUser(
      admin_, NewUser("m", v1::User::WORKER, "", {"merge"}));
  ASSERT_TRUE(merger.ok());
  EXPECT_THAT(merger->trust(), ::testing::ElementsAre("merge"));
}

struct BadUser {
  v1::CreateUserRequest request;
  std::string names;
};

TEST_F(IdentityServiceTest, RefusesMalformedUsers) {
  const BadUser cases[] = {
      {NewUser("", v1::User::READER), "user_id ''"},
      {NewUser("Ada", v1::User::READER), "user_id 'Ada'"},
      {NewUser("a b", v1::User::READER), "user_id 'a b'"},
      {NewUser("../x", v1::User::READER), "user_id '../x'"},
      {NewUser(std::string(65, 'a'), v1::User::READER), "1 to 64"},
      {NewUser("ada", v1::User::ROLE_UNSPECIFIED), "user.role"},
      {NewUser("ada", static_cast<v1::User::Role>(99)), "user.role"},
      {NewUser("ada", v1::User::READER, "tiny"), "tiny"},
      {NewUser("ada", v1::User::READER, "models/../x"), "models/../x"},
      {NewUser("ada", v1::User::WORKER, "models/m"), "user.model"},
      {NewUser("ada", v1::User::ADMINISTRATOR, "models/m"), "user.model"},
      {NewUser("ada", v1::User::READER, "", {"merge"}), "user.trust"},
      {NewUser("ada", v1::User::WORKER, "", {"train"}), "'train'"},
  };
  for (const BadUser& bad : cases) {
    auto result = service_.CreateUser(admin_, bad.request);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument)
        << bad.request.ShortDebugString();
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(bad.names));
  }
  EXPECT_EQ(service_.ListUsers(admin_, {})->items_size(), 0);
}

TEST_F(IdentityServiceTest, OnlyAdministratorsMakeUsersAndTokens) {
  Caller chief{.user = "users/chief", .role = v1::User::MAINTAINER};
  EXPECT_EQ(service_.CreateUser(chief, NewUser("x", v1::User::READER))
                .status()
                .code(),
            absl::StatusCode::kPermissionDenied);
  v1::CreateTokenRequest token;
  token.set_user("users/nobody");
  EXPECT_EQ(service_.CreateToken(chief, token).status().code(),
            absl::StatusCode::kPermissionDenied)
      << "permission comes before existence";
  EXPECT_EQ(service_.CreateToken(admin_, token).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(IdentityServiceTest, TokensLastNinetyDaysUnlessToldOtherwise) {
  ASSERT_TRUE(
      service_.CreateUser(admin_, NewUser("ada", v1::User::READER)).ok());
  v1::CreateTokenRequest request;
  request.set_user("users/ada");
  auto token = service_.CreateToken(admin_, request);
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token->expire_time().seconds(), 1'800'000'000 + 90 * 86'400);
  request.mutable_ttl()->set_seconds(60);
  EXPECT_EQ(service_.CreateToken(admin_, request)->expire_time().seconds(),
            1'800'000'060);
}

TEST_F(IdentityServiceTest, RegistersAKeyWithProofOfPossession) {
  ASSERT_TRUE(
      service_.CreateUser(admin_, NewUser("ada", v1::User::CONTRIBUTOR)).ok());
  SigningKey key = SigningKey::Generate();
  auto user = service_.RegisterKey(ada_, Registration(key, "users/ada"));
  ASSERT_TRUE(user.ok()) << user.status();
  EXPECT_EQ(user->public_key(), key.public_hex());
  EXPECT_TRUE(service_.RegisterKey(ada_, Registration(key, "users/ada")).ok());
  EXPECT_EQ(service_.GetProfile(ada_, {})->public_key(), key.public_hex());
}

TEST_F(IdentityServiceTest, RefusesAKeyWithoutItsProof) {
  ASSERT_TRUE(
      service_.CreateUser(admin_, NewUser("ada", v1::User::CONTRIBUTOR)).ok());
  SigningKey key = SigningKey::Generate();
  auto for_another = Registration(key, "users/bob");
  auto empty = Registration(key, "users/ada");
  empty.clear_proof();
  auto not_a_key = Registration(key, "users/ada");
  not_a_key.set_public_key("abc");
  for (const auto& request : {for_another, empty, not_a_key}) {
    auto result = service_.RegisterKey(ada_, request);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetReason(result.status())->code, "SIGNATURE_INVALID");
  }
  EXPECT_EQ(service_.GetProfile(ada_, {})->public_key(), "");
}

TEST_F(IdentityServiceTest, SecondKeyNeedsTheFirst) {
  ASSERT_TRUE(
      service_.CreateUser(admin_, NewUser("ada", v1::User::CONTRIBUTOR)).ok());
  SigningKey first = SigningKey::Generate(), second = SigningKey::Generate();
  ASSERT_TRUE(
      service_.RegisterKey(ada_, Registration(first, "users/ada")).ok());
  auto request = Registration(second, "users/ada");
  EXPECT_EQ(service_.RegisterKey(ada_, request).status().code(),
            absl::StatusCode::kPermissionDenied);
  request.set_previous_proof(
      second.Sign(kRegisterDomain, RegistrationText(kHub, "users/ada")));
  EXPECT_EQ(service_.RegisterKey(ada_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.set_previous_proof(
      first.Sign(kRegisterDomain, RegistrationText(kHub, "users/ada")));
  auto changed = service_.RegisterKey(ada_, request);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->public_key(), second.public_hex());
}

TEST_F(IdentityServiceTest, ListsUsersInPages) {
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_TRUE(
        service_.CreateUser(admin_, NewUser(id, v1::User::READER)).ok());
  }
  v1::ListUsersRequest request;
  request.set_page_size(2);
  auto page = service_.ListUsers(admin_, request);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->items_size(), 2);
  request.set_page_token(page->next_page_token());
  page = service_.ListUsers(admin_, request);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->items_size(), 1);
  EXPECT_EQ(page->items(0).name(), "users/c");
  EXPECT_EQ(page->next_page_token(), "");
  request.set_page_token("%%%");
  EXPECT_EQ(service_.ListUsers(admin_, request).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace cairn
