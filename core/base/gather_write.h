#ifndef CAIRN_CORE_BASE_GATHER_WRITE_H_
#define CAIRN_CORE_BASE_GATHER_WRITE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// Writes pieces of memory, one after the other, to an open file from `offset`
// on. Returns 0, or the errno of what went wrong; then some may be written.
int GatherWriteAt(int fd, int64_t offset,
                  absl::Span<const absl::string_view> pieces);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_GATHER_WRITE_H_
