#include "merge/engine/input_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/str_format.h"

namespace cairn {

struct InputHash::State {
  XXH3_state_t hash;
};

InputHash::InputHash() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->hash);
}
InputHash::~InputHash() = default;
InputHash::InputHash(InputHash&&) noexcept = default;
InputHash& InputHash::operator=(InputHash&&) noexcept = default;

void InputHash::Add(absl::Span<const char> bytes) {
  XXH3_128bits_update(&state_->hash, bytes.data(), bytes.size());
}

std::string InputHash::Finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->hash);
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace cairn
