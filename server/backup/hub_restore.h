#ifndef CAIRN_SERVER_BACKUP_HUB_RESTORE_H_
#define CAIRN_SERVER_BACKUP_HUB_RESTORE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/clock.h"

namespace cairn {

struct RestoreOptions {
  // As HubBackup made it.
  std::string backup;
  // Empty: the newest one.
  std::string snapshot;
  // Must not exist, or be empty.
  std::string data_dir;
  // For the new administrator's home.
  std::string address = "127.0.0.1:7443";
};

struct RestoreReport {
  std::string snapshot;
  int64_t blobs = 0;
  // Of the new administrator's home.
  std::string admin_home;
};

// Makes a data directory of a snapshot. Every blob is read and compared with
// its digest; the records are checked as `cairn admin check` does. Open
// uploads are forgotten, as their bytes are in no backup; the administrator
// gets a new home, key and token. All or nothing: the directory has its name
// only once it is complete. ALREADY_EXISTS when it is there and not empty;
// NOT_FOUND without a backup; DATA_LOSS naming what is damaged.
absl::StatusOr<RestoreReport> RestoreHub(const RestoreOptions& options,
                                         Clock& clock);

}  // namespace cairn

#endif  // CAIRN_SERVER_BACKUP_HUB_RESTORE_H_
