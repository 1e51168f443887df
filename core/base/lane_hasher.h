#ifndef CAIRN_CORE_BASE_LANE_HASHER_H_
#define CAIRN_CORE_BASE_LANE_HASHER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/digest.h"

namespace cairn {

// The SHA-256 of a stream of bytes, computed beside those of other streams. A
// step of one stream waits four cycles for the step before it, but the
// processor starts one every cycle: four streams together take one thread
// little longer than one alone. Where the processor has no instructions for
// SHA-256, every stream goes through OpenSSL. Not thread-safe.
class LaneHasher {
 public:
  // As many streams as are worth being hashed together.
  static constexpr size_t kLanes = 4;

  struct Part {
    LaneHasher* hasher;
    absl::string_view bytes;
  };

  LaneHasher();

  // Adds to each hasher its bytes; no hasher may be there twice. Quickest when
  // the parts are equally long.
  static void UpdateAll(absl::Span<const Part> parts);
  void Update(absl::string_view bytes) { UpdateAll({{this, bytes}}); }
  // The digest of what was added; the hasher is then empty again.
  Digest Finish();

 private:
  static constexpr size_t kBlock = 64;

  // Completes a block that was begun; returns the bytes that are left.
  absl::string_view FillBlock(absl::string_view bytes);
  void Reset();

  // ABEF and CDGH, as the instructions take them.
  alignas(16) std::array<uint32_t, 8> state_;
  std::array<char, kBlock> begun_;
  size_t begun_bytes_ = 0;
  uint64_t bytes_ = 0;
  std::optional<Hasher> portable_;  // without the instructions
};

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_LANE_HASHER_H_
