#include "server/setup/hub_keys.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/release_document.h"
#include "server/flow/contribution_state.h"

namespace cairn {
namespace {

constexpr int kSecretMode = 0600;
constexpr int kFormatVersion = 1;

std::string KeysFile(const std::string& data_dir, absl::string_view name) {
  return absl::StrCat(data_dir, "/keys/", name);
}

absl::Status WriteReleaseKey(const std::string& data_dir,
                             const std::string& hub_id, const SigningKey& root,
                             absl::Time now, absl::Duration ttl) {
  SigningKey release = SigningKey::Generate();
  v1::Delegation delegation;
  delegation.set_hub_id(hub_id);
  delegation.set_release_key(release.public_hex());
  *delegation.mutable_not_before() = ToTimestamp(now);
  *delegation.mutable_not_after() = ToTimestamp(now + ttl);
  v1::SignedDelegation statement = SignDelegation(delegation, root);
  CAIRN_RETURN_IF_ERROR(WriteFile(KeysFile(data_dir, "release.key"),
                                  absl::StrCat(release.seed_hex(), "\n"),
                                  kSecretMode));
  return WriteFile(KeysFile(data_dir, "delegation"),
                   statement.SerializeAsString());
}

absl::StatusOr<SigningKey> ReadSeed(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  auto key = SigningKey::FromSeedHex(absl::StripAsciiWhitespace(text));
  if (!key.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", key.status().message()));
  }
  return key;
}

struct Identity {
  std::string hub_id;
  std::string root_key;
};

absl::StatusOr<Identity> ReadIdentity(const std::string& data_dir) {
  std::string path = KeysFile(data_dir, "hub.json");
  auto text = ReadFile(path);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(
        absl::StrCat(data_dir, " is not a hub's data directory (no ", path,
                     "); make one with: cairnd init --data-dir ", data_dir));
  }
  CAIRN_RETURN_IF_ERROR(text);
  auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object() || json.value("format_version", 0) != kFormatVersion ||
      !json["hub_id"].is_string() || !json["root_key"].is_string()) {
    return absl::DataLossError(absl::StrCat(
        path,
        " is broken: it must be an object with format_version 1, hub_id "
        "and root_key"));
  }
  return Identity{json["hub_id"], json["root_key"]};
}

// The delegation as far as it concerns this hub and release key.
absl::StatusOr<v1::Delegation> CheckDelegation(
    const v1::SignedDelegation& statement, const Identity& identity,
    const SigningKey& release) {
  v1::Delegation delegation;
  if (!delegation.ParseFromString(statement.delegation())) {
    return absl::DataLossError("keys/delegation is broken");
  }
  absl::Status signed_by_root =
      VerifySignature(identity.root_key, kDelegationDomain,
                      statement.delegation(), statement.signature());
  if (!signed_by_root.ok() || statement.root_key() != identity.root_key ||
      delegation.hub_id() != identity.hub_id ||
      delegation.release_key() != release.public_hex()) {
    return absl::DataLossError(
        "keys/delegation does not fit keys/release.key and keys/hub.json; "
        "make a new one with: cairnd delegate --root-key FILE");
  }
  return delegation;
}

}  // namespace

absl::Status CreateHubKeys(const std::string& data_dir, absl::Time now,
                           absl::Duration delegation_ttl) {
  SigningKey root = SigningKey::Generate();
  std::string hub_id = absl::StrCat("hub-", ToHex(RandomBytes(16)));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(KeysFile(data_dir, ""), 0700));
  CAIRN_RETURN_IF_ERROR(WriteFile(KeysFile(data_dir, "root.key"),
                                  absl::StrCat(root.seed_hex(), "\n"),
                                  kSecretMode));
  CAIRN_RETURN_IF_ERROR(
      WriteReleaseKey(data_dir, hub_id, root, now, delegation_ttl));
  nlohmann::ordered_json json = {{"format_version", kFormatVersion},
                                 {"hub_id", hub_id},
                                 {"root_key", root.public_hex()}};
  return WriteFile(KeysFile(data_dir, "hub.json"), json.dump(2) + "\n");
}

absl::StatusOr<HubKeys> LoadHubKeys(const std::string& data_dir) {
  CAIRN_ASSIGN_OR_RETURN(Identity identity, ReadIdentity(data_dir));
  CAIRN_ASSIGN_OR_RETURN(SigningKey release,
                         ReadSeed(KeysFile(data_dir, "release.key")));
  CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                         ReadFile(KeysFile(data_dir, "delegation")));
  v1::SignedDelegation statement;
  if (!statement.ParseFromString(bytes)) {
    return absl::DataLossError("keys/delegation is broken");
  }
  CAIRN_ASSIGN_OR_RETURN(v1::Delegation delegation,
                         CheckDelegation(statement, identity, release));
  return HubKeys{.hub_id = identity.hub_id,
                 .root_key = identity.root_key,
                 .root_fingerprint = RootFingerprint(identity.root_key),
                 .release_key = std::move(release),
                 .delegation = std::move(statement),
                 .delegation_end = FromTimestamp(delegation.not_after())};
}

absl::Status RenewDelegation(const std::string& data_dir,
                             const SigningKey& root, absl::Time now,
                             absl::Duration ttl) {
  CAIRN_ASSIGN_OR_RETURN(Identity identity, ReadIdentity(data_dir));
  if (root.public_hex() != identity.root_key) {
    return absl::PermissionDeniedError(absl::StrCat(
        "this is the key ", RootFingerprint(root.public_hex()),
        " and not this hub's root, ", RootFingerprint(identity.root_key)));
  }
  return WriteReleaseKey(data_dir, identity.hub_id, root, now, ttl);
}

}  // namespace cairn
