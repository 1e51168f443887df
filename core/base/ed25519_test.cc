#include "core/base/ed25519.h"

#include <gtest/gtest.h>

#include "core/base/status_util.h"

namespace cairn {
namespace {

TEST(Ed25519Test, PublicKeyMatchesRfc8032) {
  auto key = SigningKey::FromSeedHex(
      "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(key->public_hex(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
}

TEST(Ed25519Test, VerifiesWhatItSigned) {
  SigningKey key = SigningKey::Generate();
  std::string signature = key.Sign("cairn.test.v1", "message");
  EXPECT_TRUE(
      VerifySignature(key.public_hex(), "cairn.test.v1", "message", signature)
          .ok());
}

TEST(Ed25519Test, RefusesOtherMessageDomainOrKey) {
  SigningKey key = SigningKey::Generate();
  std::string signature = key.Sign("cairn.test.v1", "message");
  for (const absl::Status& status :
       {VerifySignature(key.public_hex(), "cairn.test.v1", "massage",
                        signature),
        VerifySignature(key.public_hex(), "cairn.other.v1", "message",
                        signature),
        VerifySignature(SigningKey::Generate().public_hex(), "cairn.test.v1",
                        "message", signature),
        VerifySignature("xx", "cairn.test.v1", "message", signature),
        VerifySignature(key.public_hex(), "cairn.test.v1", "message", "00")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ASSERT_TRUE(GetReason(status).has_value());
    EXPECT_EQ(GetReason(status)->code, "SIGNATURE_INVALID");
  }
}

TEST(Ed25519Test, RefusesShortSeed) {
  EXPECT_FALSE(SigningKey::FromSeedHex("00ff").ok());
}

}  // namespace
}  // namespace cairn
