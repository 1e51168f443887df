// Any bytes as a coded block of positions: refused, or positions that ascend
// below the limit and can be coded again. The first two bytes are the count,
// the third the limit's number of bits.
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/codec/position_codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const size_t count =
      (data[0] + size_t{data[1]} * 256) % cairn::kPositionBlock + 1;
  const int64_t limit = int64_t{1} << (data[2] % 63);
  const absl::string_view coded(reinterpret_cast<const char*>(data) + 3,
                                size - 3);
  std::vector<int64_t> positions(count);
  cairn::PositionDecoder decoder;
  if (!decoder.Decode(coded, -1, limit, absl::MakeSpan(positions)).ok()) {
    return 0;
  }
  int64_t previous = -1;
  for (const int64_t position : positions) {
    CAIRN_CHECK(position > previous && position < limit);
    previous = position;
  }
  std::string again;
  cairn::PositionEncoder().Encode(-1, positions, again);
  CAIRN_CHECK(again.size() <= cairn::kPositionBytesMax);
  std::vector<int64_t> back(count);
  CAIRN_CHECK(decoder.Decode(again, -1, limit, absl::MakeSpan(back)).ok());
  CAIRN_CHECK(back == positions);
  return 0;
}
