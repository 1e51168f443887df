#ifndef CAIRN_STORAGE_KEY_CODEC_H_
#define CAIRN_STORAGE_KEY_CODEC_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// Builds keys whose byte order is the order of their parts: strings
// bytewise (a prefix comes first), integers by value. No part can run into
// the next, whatever bytes it holds, so a prefix of parts is a prefix of the
// key. KeyWriter("blob").String(user).Uint(7).Take().
class KeyWriter {
 public:
  // `table` names the kind of record; it is the key's first part.
  explicit KeyWriter(absl::string_view table) { String(table); }

  KeyWriter& String(absl::string_view part);
  KeyWriter& Uint(uint64_t part);

  const std::string& key() const { return key_; }
  std::string Take() { return std::exchange(key_, std::string()); }

 private:
  std::string key_;
};

// Takes keys apart, part by part as they were written. A key that is not of
// the expected shape is DATA_LOSS: only the store hands keys out.
class KeyReader {
 public:
  // `key` must outlive the reader.
  explicit KeyReader(absl::string_view key) : rest_(key) {}

  absl::StatusOr<std::string> String();
  absl::StatusOr<uint64_t> Uint();
  bool done() const { return rest_.empty(); }

 private:
  absl::string_view rest_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_KEY_CODEC_H_
