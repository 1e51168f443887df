#include "client/hash_source.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "core/base/status_macros.h"

namespace cairn {

absl::StatusOr<Digest> HashSource(const ByteSource& source) {
  constexpr int64_t kTileBytes = 1 << 20;
  Hasher hasher;
  std::string buffer;
  buffer.resize(static_cast<size_t>(std::min(kTileBytes, source.size())));
  for (int64_t at = 0; at < source.size();) {
    const int64_t size = std::min(kTileBytes, source.size() - at);
    auto tile = absl::MakeSpan(buffer).subspan(0, static_cast<size_t>(size));
    CAIRN_RETURN_IF_ERROR(source.ReadAt(at, tile));
    hasher.Update(absl::string_view(tile.data(), tile.size()));
    at += size;
  }
  return hasher.Finish();
}

}  // namespace cairn
