#ifndef CAIRN_CORE_DELTA_DELTA_PACK_FORM_H_
#define CAIRN_CORE_DELTA_DELTA_PACK_FORM_H_

#include <algorithm>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "core/codec/delta_codec.h"
#include "core/delta/delta_pack.h"

// What the writer and the reader of deltas share; README.md has the form in
// words.

namespace cairn {

// The first and the last bytes of a delta.
inline constexpr absl::string_view kDeltaMagic = "CAIRN\x01\r\n";
// After the index: its length, 8 bytes.
inline constexpr int64_t kDeltaTailBytes = 8;
inline constexpr int64_t kDeltaIndexBytesMax = int64_t{1} << 30;

inline int64_t DeltaPieces(int64_t tensor_bytes) {
  return (tensor_bytes + kDeltaPieceBytes - 1) / kDeltaPieceBytes;
}

// What a coded piece takes at most: a length and a block each.
inline constexpr int64_t kDeltaPieceBlocks =
    kDeltaPieceBytes / int64_t{kDeltaBlockBytesMax};
inline int64_t DeltaPieceCodedBytesMax() {
  return kDeltaPieceBlocks *
         (4 + static_cast<int64_t>(DeltaCodedBytesMax(kDeltaBlockBytesMax)));
}

}  // namespace cairn

#endif  // CAIRN_CORE_DELTA_DELTA_PACK_FORM_H_
