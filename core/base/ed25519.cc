#include "core/base/ed25519.h"

#include <openssl/evp.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr size_t kKeyBytes = 32;

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeKey>;
using ContextPtr = std::unique_ptr<EVP_MD_CTX, FreeContext>;

const unsigned char* Bytes(const std::string& s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

std::string Framed(absl::string_view domain, absl::string_view message) {
  return absl::StrCat(domain, absl::string_view("\0", 1), message);
}

KeyPtr PrivateKey(const std::string& seed) {
  KeyPtr key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                          Bytes(seed), seed.size()));
  CAIRN_CHECK(key != nullptr);
  return key;
}

std::string PublicHex(EVP_PKEY* key) {
  std::string raw(kKeyBytes, '\0');
  size_t size = raw.size();
  CAIRN_CHECK(EVP_PKEY_get_raw_public_key(
                  key, reinterpret_cast<unsigned char*>(raw.data()), &size) ==
              1);
  return ToHex(raw);
}

absl::Status Invalid(absl::string_view why) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "SIGNATURE_INVALID",
                       why);
}

}  // namespace

SigningKey::SigningKey(std::string seed_hex, std::string public_hex)
    : seed_hex_(std::move(seed_hex)), public_hex_(std::move(public_hex)) {}

SigningKey SigningKey::Generate() {
  std::string seed = RandomBytes(kKeyBytes);
  return SigningKey(ToHex(seed), PublicHex(PrivateKey(seed).get()));
}

absl::StatusOr<SigningKey> SigningKey::FromSeedHex(absl::string_view hex) {
  CAIRN_ASSIGN_OR_RETURN(std::string seed, FromHex(hex));
  if (seed.size() != kKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a signing key has 64 hex digits, not ", hex.size()));
  }
  return SigningKey(std::string(hex), PublicHex(PrivateKey(seed).get()));
}

std::string SigningKey::Sign(absl::string_view domain,
                             absl::string_view message) const {
  KeyPtr key = PrivateKey(*FromHex(seed_hex_));
  ContextPtr context(EVP_MD_CTX_new());
  CAIRN_CHECK(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr,
                                 key.get()) == 1);
  const std::string framed = Framed(domain, message);
  std::string signature(64, '\0');
  size_t size = signature.size();
  CAIRN_CHECK(EVP_DigestSign(context.get(),
                             reinterpret_cast<unsigned char*>(signature.data()),
                             &size, Bytes(framed), framed.size()) == 1);
  return ToHex(signature);
}

absl::Status VerifySignature(absl::string_view public_hex,
                             absl::string_view domain,
                             absl::string_view message,
                             absl::string_view signature_hex) {
  auto raw_key = FromHex(public_hex);
  if (!raw_key.ok() || raw_key->size() != kKeyBytes) {
    return Invalid("the public key is not 64 lower-case hex digits");
  }
  auto signature = FromHex(signature_hex);
  if (!signature.ok() || signature->size() != 64) {
    return Invalid("the signature is not 128 lower-case hex digits");
  }
  KeyPtr key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                         Bytes(*raw_key), raw_key->size()));
  if (key == nullptr) return Invalid("the public key is not an Ed25519 key");
  ContextPtr context(EVP_MD_CTX_new());
  CAIRN_CHECK(EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr,
                                   key.get()) == 1);
  const std::string framed = Framed(domain, message);
  if (EVP_DigestVerify(context.get(), Bytes(*signature), signature->size(),
                       Bytes(framed), framed.size()) != 1) {
    return Invalid(absl::StrCat("the signature over this ", domain,
                                " was not made by key ", public_hex));
  }
  return absl::OkStatus();
}

}  // namespace cairn
