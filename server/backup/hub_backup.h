#ifndef CAIRN_SERVER_BACKUP_HUB_BACKUP_H_
#define CAIRN_SERVER_BACKUP_HUB_BACKUP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/storage.pb.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/ops/sweep_gate.h"
#include "storage/fs/fs_blob_store.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn {

// Copies a running hub to a directory of its machine. A backup is a snapshot:
// the records of one moment and every blob that they name then; the blobs of
// all snapshots of a directory are kept once. It has its name only once it is
// complete and durable. README.md says what is in it and what is not.
// Thread-safe: one backup at a time, ABORTED for a second one.
class HubBackup {
 public:
  // All must outlive it.
  HubBackup(std::string data_dir, RocksMetadataStore& metadata,
            const FsBlobStore& blobs, SweepGate& sweeps, Clock& clock)
      : data_dir_(std::move(data_dir)),
        metadata_(metadata),
        blobs_(blobs),
        sweeps_(sweeps),
        clock_(clock) {}

  // INVALID_ARGUMENT for a directory that is not absolute or lies in the data
  // directory; FAILED_PRECONDITION for one that holds something else;
  // DATA_LOSS naming a blob that is missing. A snapshot that failed leaves
  // blobs which the next one finds.
  absl::StatusOr<v1::BackupReport> Make(const v1::BackupRequest& request);

 private:
  absl::StatusOr<v1::BackupReport> MakeSnapshot(
      const v1::BackupRequest& request);

  const std::string data_dir_;
  RocksMetadataStore& metadata_;
  const FsBlobStore& blobs_;
  SweepGate& sweeps_;
  Clock& clock_;
  Mutex mutex_;
  bool is_running_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_BACKUP_HUB_BACKUP_H_
