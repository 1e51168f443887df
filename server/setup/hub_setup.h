#ifndef CAIRN_SERVER_SETUP_HUB_SETUP_H_
#define CAIRN_SERVER_SETUP_HUB_SETUP_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "storage/metadata_store.h"

namespace cairn {

struct HubSetupOptions {
  std::string data_dir;
  // Host names and addresses of the server's certificate.
  std::vector<std::string> names = {"localhost", "127.0.0.1"};
  // Written to the administrator's home; used without --hub.
  std::string address = "127.0.0.1:7443";
  // Opens the hub's metadata store in a directory of that name; called once,
  // and closed again before InitHub returns.
  std::function<absl::StatusOr<std::unique_ptr<MetadataStore>>(
      const std::string& directory)>
      open_store;
};

struct HubSetupResult {
  std::string hub_id;
  std::string root_fingerprint;
  std::string root_key_file;
  std::string admin_home;
};

// Makes a hub's data directory: certificate authority, server certificate,
// root and release keys, the metadata store with the first administrator, and
// admin/, a home of the `cairn` command for that administrator. All or
// nothing: the directory has its name only once it is complete.
// ALREADY_EXISTS when there is something in its place.
absl::StatusOr<HubSetupResult> InitHub(const HubSetupOptions& options,
                                       Clock& clock);

// Makes admin/ of a data directory that has all the rest: a new key and token
// of the user `admin`, whose earlier key is replaced. `metadata` is the
// directory's store.
absl::Status MakeAdminHome(const std::string& data_dir,
                           const std::string& address, MetadataStore& metadata,
                           Clock& clock);

// Makes a new server certificate for these names, signed by the hub's own
// authority, so that clients notice nothing. NOT_FOUND when the directory has
// no authority's key (the certificate then comes from elsewhere).
absl::Status RenewServerCertificate(const std::string& data_dir,
                                    const std::vector<std::string>& names,
                                    absl::Time now);

// Where the parts of a data directory are.
std::string MetadataDirectory(const std::string& data_dir);
std::string BlobDirectory(const std::string& data_dir);

}  // namespace cairn

#endif  // CAIRN_SERVER_SETUP_HUB_SETUP_H_
