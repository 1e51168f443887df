#ifndef CAIRN_STORAGE_MEMORY_MEMORY_METADATA_STORE_H_
#define CAIRN_STORAGE_MEMORY_MEMORY_METADATA_STORE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/mutex.h"
#include "storage/metadata_store.h"

namespace cairn {

// A MetadataStore in memory, for tests and tools. States are immutable maps,
// so a snapshot costs nothing and a transaction costs a copy: for small
// stores. Thread-safe.
class MemoryMetadataStore : public MetadataStore {
 public:
  using Map = std::map<std::string, std::string>;

  std::unique_ptr<MetadataReader> Snapshot() const override;
  absl::Status Transact(
      const std::function<absl::Status(MetadataTransaction&)>& fn) override;

 private:
  std::shared_ptr<const Map> Current() const;

  // Held for the whole of a transaction: one at a time is serialisable.
  Mutex writer_;
  mutable Mutex mutex_;
  // Shared with the snapshots that still read it.
  std::shared_ptr<const Map> state_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<Map>();
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_MEMORY_MEMORY_METADATA_STORE_H_
