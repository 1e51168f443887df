#include "server/auth/token_authority.h"

#include "core/base/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

class TokenAuthorityTest : public ::testing::Test {
 protected:
  void SetUp() override { PutUser(v1::User::READER); }
  void PutUser(v1::User::Role role) {
    store::v1::UserRecord record;
    record.mutable_user()->set_name("users/ada");
    record.mutable_user()->set_role(role);
    ASSERT_TRUE(
        store_.Transact([&](HubTransaction& txn) { return txn.Put(record); })
            .ok());
  }
  absl::StatusCode Try(absl::string_view authorization) {
    return tokens_.Identify(authorization).status().code();
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  HubStore store_{metadata_, clock_};
  TokenAuthority tokens_{store_};
};

TEST_F(TokenAuthorityTest, TokenSpeaksForItsUserAsTheUserIsNow) {
  auto token = tokens_.Create("users/ada", absl::Hours(1));
  ASSERT_TRUE(token.ok()) << token.status();
  auto caller = tokens_.Identify("Bearer " + token->token());
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->user, "users/ada");
  EXPECT_EQ(caller->role, v1::User::READER);
  PutUser(v1::User::REVIEWER);
  EXPECT_EQ(tokens_.Identify("bearer " + token->token())->role,
            v1::User::REVIEWER);
}

TEST_F(TokenAuthorityTest, SecretIsNotStored) {
  auto token = tokens_.Create("users/ada", absl::Hours(1));
  ASSERT_TRUE(token.ok());
  auto rows = metadata_.Snapshot()->Scan("", "", 100);
  ASSERT_TRUE(rows.ok());
  for (const KeyValue& row : *rows) {
    EXPECT_THAT(row.key, ::testing::Not(::testing::HasSubstr(token->token())));
    EXPECT_THAT(row.value,
                ::testing::Not(::testing::HasSubstr(token->token())));
  }
}

TEST_F(TokenAuthorityTest, TokenEndsWithItsTime) {
  auto token = tokens_.Create("users/ada", absl::Hours(1));
  ASSERT_TRUE(token.ok());
  clock_.Advance(absl::Minutes(59));
  EXPECT_EQ(Try("Bearer " + token->token()), absl::StatusCode::kOk);
  clock_.Advance(absl::Minutes(1));
  EXPECT_EQ(Try("Bearer " + token->token()),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(TokenAuthorityTest, RevokedTokensAreUnknown) {
  auto one = tokens_.Create("users/ada", absl::Hours(1));
  auto two = tokens_.Create("users/ada", absl::Hours(1));
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE(one->token(), two->token());
  ASSERT_TRUE(tokens_.RevokeAll("users/ada").ok());
  EXPECT_EQ(Try("Bearer " + one->token()), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Try("Bearer " + two->token()), absl::StatusCode::kUnauthenticated);
}

TEST_F(TokenAuthorityTest, NoMetadataIsAnonymousAndNonsenseIsRefused) {
  auto anonymous = tokens_.Identify("");
  ASSERT_TRUE(anonymous.ok());
  EXPECT_TRUE(anonymous->is_anonymous());
  for (const std::string& bad :
       {std::string("Bearer "), std::string("Bearer nonsense"),
        std::string("Basic YTpi"), std::string("token"),
        "Bearer " + std::string(100'000, 'a'),
        "Bearer " + Digest::Of("x").hex()}) {
    EXPECT_EQ(Try(bad), absl::StatusCode::kUnauthenticated) << bad.substr(0, 9);
  }
}

TEST_F(TokenAuthorityTest, RefusesUnknownUsersAndEndlessTokens) {
  EXPECT_EQ(tokens_.Create("users/eve", absl::Hours(1)).status().code(),
            absl::StatusCode::kNotFound);
  for (absl::Duration ttl :
       {absl::ZeroDuration(), absl::Hours(-1), kTokenTtlMax + absl::Seconds(1),
        absl::InfiniteDuration()}) {
    EXPECT_EQ(tokens_.Create("users/ada", ttl).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace cairn
