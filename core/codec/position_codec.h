#ifndef CAIRN_CORE_CODEC_POSITION_CODEC_H_
#define CAIRN_CORE_CODEC_POSITION_CODEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/codec/bit_stream.h"
#include "core/codec/rans.h"

// Ascending positions (which elements of a tensor change) in few more bits than
// their entropy. What is coded is the gap from one to the next: by rANS under
// the table of a geometric distribution, which a byte names, or under a table
// of the block's own where positions cluster; few positions by Rice's code
// (Rice and Plaunt 1971). README.md has the form.

namespace cairn {

// Positions of a block. Enough that the ends of four rANS states are less than
// one bit in a hundred even where half of all elements are listed.
inline constexpr size_t kPositionBlock = 8192;
// All positions lie below.
inline constexpr int64_t kPositionLimit = int64_t{1} << 62;
// What a coded block takes at most: raw bits and words of rANS, 8 bytes a
// position each, tables and heads.
inline constexpr size_t kPositionBytesMax = 16 * kPositionBlock + 2048;

// Bits that tell which `count` of `elements` are listed when all are as likely:
// the entropy that coded positions are held against.
double PositionEntropyBits(int64_t count, int64_t elements);

// Reuses its memory. Not thread-safe.
class PositionEncoder {
 public:
  // Appends a block: 1 to kPositionBlock ascending positions, all after
  // `previous` (-1 before the first) and below kPositionLimit.
  void Encode(int64_t previous, absl::Span<const int64_t> positions,
              std::string& out);

 private:
  void AppendRice(unsigned low_bits, std::string& out);
  void AppendRans(int model, std::string& out);
  // Splits gaps into tokens_, with `skip_token` where a gap goes on.
  size_t Tokenise(size_t skip_token);

  std::vector<uint64_t> gaps_;
  std::vector<uint8_t> tokens_;
  std::vector<uint8_t> contexts_;
  std::array<uint32_t, 256> counts_ = {};
  BitWriter bits_;
  RansEncoder rans_;
};

// Decodes what PositionEncoder wrote; reuses its memory. Not thread-safe.
class PositionDecoder {
 public:
  // Fills `positions`, as many as were encoded, from the whole of `coded`; all
  // are above `previous` and below `limit` <= kPositionLimit. DATA_LOSS with
  // what is wrong otherwise, whatever the bytes; `positions` then hold rubbish.
  absl::Status Decode(absl::string_view coded, int64_t previous, int64_t limit,
                      absl::Span<int64_t> positions);

 private:
  absl::Status DecodeRice(absl::string_view coded, unsigned low_bits,
                          int64_t previous, int64_t limit,
                          absl::Span<int64_t> positions);
  absl::Status DecodeRans(absl::string_view coded, int model, int64_t previous,
                          int64_t limit, absl::Span<int64_t> positions);
  // Reads a block's own table; how many bytes it takes.
  absl::StatusOr<size_t> ReadTable(size_t size);

  std::vector<char> padded_;
  RansFrequencies table_ = {};
  int model_ = -1;  // whose table rans_ has
  RansDecoder rans_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_POSITION_CODEC_H_
