#ifndef CAIRN_STORAGE_ROCKSDB_ROCKSDB_METADATA_STORE_H_
#define CAIRN_STORAGE_ROCKSDB_ROCKSDB_METADATA_STORE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/metadata_store.h"
#include "storage/schema.h"

namespace cairn {

// A MetadataStore in a RocksDB directory. Transactions run one at a time,
// which makes them serialisable, and are synced before they return. A torn
// last write is dropped at the next start (it was never acknowledged); any
// other damage is DATA_LOSS. No space: RESOURCE_EXHAUSTED, and the store goes
// on when there is some again. Thread-safe; snapshots must not outlive it.
class RocksMetadataStore : public MetadataStore {
 public:
  // Brings an older store forward to `schema`, step by step.
  // FAILED_PRECONDITION when another process has the directory open, or when
  // a newer program wrote it. DATA_LOSS when it is damaged. The error of a
  // step that fails; the store is then at the version before it.
  static absl::StatusOr<std::unique_ptr<RocksMetadataStore>> Open(
      const std::string& directory, const Schema& schema = Schema());
  ~RocksMetadataStore() override;

  std::unique_ptr<MetadataReader> Snapshot() const override;
  absl::Status Transact(
      const std::function<absl::Status(MetadataTransaction&)>& fn) override;

  // Writes a consistent copy to `directory`, which must not exist. Files are
  // hard-linked where they can be.
  absl::Status Backup(const std::string& directory);

 private:
  class Database;
  explicit RocksMetadataStore(std::unique_ptr<Database> database);

  const std::unique_ptr<Database> database_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_ROCKSDB_ROCKSDB_METADATA_STORE_H_
