#include "core/base/allocation.h"

#include <malloc.h>

namespace cairn {
namespace {

// What each of the allocator's arenas may keep; larger buffers come from the
// system one by one.
constexpr int kKeptBytes = 8 << 20;
constexpr int kSingleBytes = 2 << 20;

}  // namespace

void KeepFreedBuffers() {
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
  mallopt(M_MMAP_THRESHOLD, kSingleBytes);
}

}  // namespace cairn
