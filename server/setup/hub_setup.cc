#include "server/setup/hub_setup.h"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/ed25519.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "server/auth/token_authority.h"
#include "server/flow/contribution_state.h"
#include "server/flow/hub_store.h"
#include "server/setup/certificate_authority.h"
#include "server/setup/hub_keys.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kAdmin[] = "admin";
constexpr absl::Duration kAuthorityValid = absl::Hours(24 * 365 * 10);
constexpr absl::Duration kServerValid = absl::Hours(24 * 365 * 2);
constexpr int kSecretMode = 0600;

absl::Status RefuseExisting(const std::string& data_dir) {
  std::error_code error;
  fs::file_status status = fs::symlink_status(data_dir, error);
  if (status.type() == fs::file_type::not_found) return absl::OkStatus();
  if (fs::is_directory(status) && fs::is_empty(data_dir, error) && !error) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError(absl::StrCat(
      data_dir,
      fs::exists(data_dir + "/keys/hub.json", error)
          ? " is a hub's data directory already; start it with: cairnd "
            "--data-dir " +
                data_dir
          : " exists and is not empty; name a directory that does not exist"));
}

absl::Status WriteServerCertificate(const std::string& tls,
                                    const CertificatePair& authority,
                                    const std::vector<std::string>& names,
                                    absl::Time now) {
  CAIRN_ASSIGN_OR_RETURN(
      CertificatePair server,
      MakeServerCertificate(authority, names, now, kServerValid));
  CAIRN_RETURN_IF_ERROR(
      WriteFile(tls + "/server.key", server.key, kSecretMode));
  return WriteFile(tls + "/server.pem", server.certificate);
}

absl::Status WriteCertificates(const std::string& dir,
                               const std::vector<std::string>& names,
                               absl::Time now) {
  CAIRN_ASSIGN_OR_RETURN(
      CertificatePair authority,
      MakeAuthority("Cairn hub authority", now, kAuthorityValid));
  std::string tls = dir + "/tls";
  CAIRN_RETURN_IF_ERROR(MakeDirectory(tls));
  CAIRN_RETURN_IF_ERROR(WriteFile(tls + "/ca.pem", authority.certificate));
  CAIRN_RETURN_IF_ERROR(WriteFile(tls + "/ca.key", authority.key, kSecretMode));
  return WriteServerCertificate(tls, authority, names, now);
}

// The first administrator; returns the secret of a token for it.
absl::StatusOr<std::string> CreateAdministrator(MetadataStore& metadata,
                                                Clock& clock,
                                                const SigningKey& key) {
  HubStore store(metadata, clock);
  std::string name = absl::StrCat("users/", kAdmin);
  absl::Status created = store.Transact([&](HubTransaction& txn) {
    store::v1::UserRecord record;
    record.mutable_user()->set_name(name);
    record.mutable_user()->set_role(v1::User::ADMINISTRATOR);
    record.mutable_user()->set_public_key(key.public_hex());
    *record.mutable_user()->mutable_create_time() = ToTimestamp(txn.now());
    return txn.Put(record);
  });
  if (!created.ok()) return created;
  CAIRN_ASSIGN_OR_RETURN(v1::Token token,
                         TokenAuthority(store).Create(name, kTokenTtlMax));
  return token.token();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    return SystemError(error.value(),
                       absl::StrCat("rename ", from, " to ", to));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeAdminHome(const std::string& data_dir,
                           const std::string& address, MetadataStore& metadata,
                           Clock& clock) {
  CAIRN_ASSIGN_OR_RETURN(HubKeys keys, LoadHubKeys(data_dir));
  SigningKey key = SigningKey::Generate();
  CAIRN_ASSIGN_OR_RETURN(std::string token,
                         CreateAdministrator(metadata, clock, key));
  std::string home = absl::StrCat(data_dir, "/", kAdmin);
  CAIRN_RETURN_IF_ERROR(MakeDirectory(home, 0700));
  CAIRN_ASSIGN_OR_RETURN(std::string ca, ReadFile(data_dir + "/tls/ca.pem"));
  CAIRN_RETURN_IF_ERROR(WriteFile(home + "/ca.pem", ca));
  CAIRN_RETURN_IF_ERROR(WriteFile(home + "/token", token + "\n", kSecretMode));
  CAIRN_RETURN_IF_ERROR(
      WriteFile(home + "/key", key.seed_hex() + "\n", kSecretMode));
  return WriteFile(
      home + "/config.yaml",
      absl::StrCat("hub: ", address, "\nidentity: ", kAdmin,
                   "\nroot_fingerprint: ", keys.root_fingerprint, "\n"),
      kSecretMode);
}

absl::Status RenewServerCertificate(const std::string& data_dir,
                                    const std::vector<std::string>& names,
                                    absl::Time now) {
  std::string tls = data_dir + "/tls";
  CertificatePair authority;
  CAIRN_ASSIGN_OR_RETURN(authority.certificate, ReadFile(tls + "/ca.pem"));
  CAIRN_ASSIGN_OR_RETURN(authority.key, ReadFile(tls + "/ca.key"));
  return WriteServerCertificate(tls, authority, names, now);
}

std::string MetadataDirectory(const std::string& data_dir) {
  return data_dir + "/metadata";
}
std::string BlobDirectory(const std::string& data_dir) {
  return data_dir + "/blobs";
}

absl::StatusOr<HubSetupResult> InitHub(const HubSetupOptions& options,
                                       Clock& clock) {
  std::string data_dir = fs::absolute(options.data_dir).lexically_normal();
  if (data_dir.size() > 1 && data_dir.back() == '/') data_dir.pop_back();
  CAIRN_RETURN_IF_ERROR(RefuseExisting(data_dir));
  // Built beside its place, so that an interrupted set-up leaves no hub.
  std::string dir = absl::StrCat(data_dir, ".init-", ToHex(RandomBytes(4)));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(dir, 0700));
  auto remove = absl::MakeCleanup([&dir] {
    std::error_code ignored;
    fs::remove_all(dir, ignored);
  });
  absl::Time now = clock.Now();
  CAIRN_RETURN_IF_ERROR(WriteCertificates(dir, options.names, now));
  CAIRN_RETURN_IF_ERROR(CreateHubKeys(dir, now, kDelegationTtlDefault));
  CAIRN_ASSIGN_OR_RETURN(HubKeys keys, LoadHubKeys(dir));
  {
    CAIRN_ASSIGN_OR_RETURN(auto metadata,
                           options.open_store(MetadataDirectory(dir)));
    CAIRN_RETURN_IF_ERROR(
        MakeAdminHome(dir, options.address, *metadata, clock));
  }
  CAIRN_RETURN_IF_ERROR(Rename(dir, data_dir));
  std::move(remove).Cancel();
  return HubSetupResult{.hub_id = keys.hub_id,
                        .root_fingerprint = keys.root_fingerprint,
                        .root_key_file = data_dir + "/keys/root.key",
                        .admin_home = absl::StrCat(data_dir, "/", kAdmin)};
}

}  // namespace cairn
