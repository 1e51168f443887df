#ifndef CAIRN_CLIENT_CREDENTIALS_H_
#define CAIRN_CLIENT_CREDENTIALS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/ed25519.h"

namespace cairn {

// What config.yaml of a home holds; empty: not set.
struct HomeSettings {
  // HOST:PORT, or a way without TLS on the hub's machine.
  std::string hub;
  // The user's short name.
  std::string identity;
  // SHA-256 of the hub's root key, hex: what releases are verified against.
  std::string root_fingerprint;
};

// What a reviewer saw last of a contribution; a decision carries it.
struct SeenReview {
  std::string etag;
  std::string digest;
  std::vector<std::string> report_ids;
};

// A folder of mode 0700 that makes a person or a worker known to a hub:
// config.yaml, key (Ed25519 seed), token, ca.pem, and what reviewers saw.
// Secrets are files of mode 0600. Errors name the file and what to do.
class Home {
 public:
  explicit Home(std::string path) : path_(std::move(path)) {}

  // $CAIRN_HOME, else ~/.config/cairn.
  static std::string DefaultPath();

  const std::string& path() const { return path_; }

  // Makes the folder, or gives it mode 0700.
  absl::Status Prepare() const;

  // Defaults when there is no config.yaml; an unknown key is an error.
  absl::StatusOr<HomeSettings> ReadSettings() const;
  absl::Status WriteSettings(const HomeSettings& settings) const;

  // FAILED_PRECONDITION naming `cairn init` when there is none.
  absl::StatusOr<std::string> ReadCa() const;
  absl::Status WriteCa(absl::string_view pem) const;

  // None when the home has no key.
  absl::StatusOr<std::optional<SigningKey>> ReadKey() const;
  // The home's key, made when there is none.
  absl::StatusOr<SigningKey> ReadOrMakeKey() const;

  // The bearer token: of `token_file` if not empty, else of the file that
  // $CAIRN_TOKEN_FILE names, else $CAIRN_TOKEN, else of HOME/token. Empty when
  // there is none of them; a named file that is missing is an error.
  absl::StatusOr<std::string> ReadToken(const std::string& token_file) const;

  // What `review show` printed last about a contribution.
  absl::Status RememberReview(const std::string& contribution,
                              const SeenReview& seen) const;
  // None when it was never shown.
  absl::StatusOr<std::optional<SeenReview>> RecallReview(
      const std::string& contribution) const;

  // HOME/`name` as a folder of mode 0700, for caches and temporary files.
  absl::StatusOr<std::string> Folder(const std::string& name) const;

 private:
  std::string File(absl::string_view name) const;

  std::string path_;
};

}  // namespace cairn

#endif  // CAIRN_CLIENT_CREDENTIALS_H_
