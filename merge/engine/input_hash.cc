#include "merge/engine/input_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/str_format.h"
#include "core/base/vector_clones.h"
#include "merge/engine/input_hash_avx2.h"

namespace cairn {
namespace {

using AddFunction = void (*)(void* state, const char* bytes, size_t count);

void AddPortable(void* state, const char* bytes, size_t count) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state), bytes, count);
}

AddFunction BestAdd() {
#if defined(__x86_64__)
  static const AddFunction best = WidestOf<AddFunction>(
      AddPortable, CairnAddToInputHashAvx2, CairnAddToInputHashAvx2);
  return best;
#else
  return AddPortable;
#endif
}

}  // namespace

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
  BestAdd()(&state_->hash, bytes.data(), bytes.size());
}

std::string InputHash::Finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->hash);
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

}  // namespace cairn
