#include "storage/memory/memory_metadata_store.h"

#include <utility>

#include "core/base/status_macros.h"

namespace cairn {
namespace {

using Map = MemoryMetadataStore::Map;

std::optional<std::string> Find(const Map& map, absl::string_view key) {
  auto it = map.find(std::string(key));
  if (it == map.end()) return std::nullopt;
  return it->second;
}

std::vector<KeyValue> ScanMap(const Map& map, absl::string_view begin,
                              absl::string_view end, size_t limit) {
  std::vector<KeyValue> out;
  for (auto it = map.lower_bound(std::string(begin));
       it != map.end() && out.size() < limit; ++it) {
    if (!end.empty() && it->first >= std::string(end)) break;
    out.push_back({it->first, it->second});
  }
  return out;
}

class MapReader : public MetadataReader {
 public:
  explicit MapReader(std::shared_ptr<const Map> map) : map_(std::move(map)) {}

  absl::StatusOr<std::optional<std::string>> Get(
      absl::string_view key) const override {
    return Find(*map_, key);
  }
  absl::StatusOr<std::vector<KeyValue>> Scan(absl::string_view begin,
                                             absl::string_view end,
                                             size_t limit) const override {
    return ScanMap(*map_, begin, end, limit);
  }

 private:
  std::shared_ptr<const Map> map_;
};

class MapTransaction : public MetadataTransaction {
 public:
  explicit MapTransaction(Map& map) : map_(map) {}

  absl::StatusOr<std::optional<std::string>> Get(
      absl::string_view key) const override {
    return Find(map_, key);
  }
  absl::StatusOr<std::vector<KeyValue>> Scan(absl::string_view begin,
                                             absl::string_view end,
                                             size_t limit) const override {
    return ScanMap(map_, begin, end, limit);
  }
  void Put(absl::string_view key, absl::string_view value) override {
    map_[std::string(key)] = std::string(value);
  }
  void Delete(absl::string_view key) override { map_.erase(std::string(key)); }

 private:
  Map& map_;
};

}  // namespace

std::shared_ptr<const Map> MemoryMetadataStore::Current() const {
  MutexLock lock(mutex_);
  return state_;
}

std::unique_ptr<MetadataReader> MemoryMetadataStore::Snapshot() const {
  return std::make_unique<MapReader>(Current());
}

absl::Status MemoryMetadataStore::Transact(
    const std::function<absl::Status(MetadataTransaction&)>& fn) {
  MutexLock writer(writer_);
  auto next = std::make_shared<Map>(*Current());
  MapTransaction transaction(*next);
  CAIRN_RETURN_IF_ERROR(fn(transaction));
  MutexLock lock(mutex_);
  state_ = std::move(next);
  return absl::OkStatus();
}

}  // namespace cairn
