#ifndef CAIRN_STORAGE_METADATA_STORE_H_
#define CAIRN_STORAGE_METADATA_STORE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// A key and its value.
struct KeyValue {
  std::string key;
  std::string value;
};

// Reads of one consistent state.
class MetadataReader {
 public:
  virtual ~MetadataReader() = default;

  // The value, or nullopt when the key is absent.
  virtual absl::StatusOr<std::optional<std::string>> Get(
      absl::string_view key) const = 0;
  // Keys in [begin, end) in byte order, at most `limit`; an empty `end` means
  // no upper bound.
  virtual absl::StatusOr<std::vector<KeyValue>> Scan(absl::string_view begin,
                                                     absl::string_view end,
                                                     size_t limit) const = 0;
};

// A serialisable transaction: reads see the state before it plus its own
// writes.
class MetadataTransaction : public MetadataReader {
 public:
  virtual void Put(absl::string_view key, absl::string_view value) = 0;
  virtual void Delete(absl::string_view key) = 0;
};

// An ordered key-value store with serialisable transactions. Thread-safe.
class MetadataStore {
 public:
  virtual ~MetadataStore() = default;

  // A consistent state to read; it does not see later writes.
  virtual std::unique_ptr<MetadataReader> Snapshot() const = 0;

  // Runs `fn` and commits what it wrote, durably (fsync) before returning.
  // `fn` may run more than once and must keep no state of its own between
  // runs. Nothing is written when `fn` fails; its error is returned. I/O
  // errors: DATA_LOSS or UNAVAILABLE.
  virtual absl::Status Transact(
      const std::function<absl::Status(MetadataTransaction&)>& fn) = 0;
};

// The smallest key after every key that starts with `prefix`, for Scan; empty
// when there is none.
std::string PrefixEnd(absl::string_view prefix);

}  // namespace cairn

#endif  // CAIRN_STORAGE_METADATA_STORE_H_
