// The one file that is compiled for AVX2 as a whole, since xxhash.h has no
// other way to be: it includes nothing that other files have inline.
#if defined(__AVX2__)

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "merge/engine/input_hash_avx2.h"

void CairnAddToInputHashAvx2(void* state, const char* bytes, size_t count) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state), bytes, count);
}

#endif  // defined(__AVX2__)
