#ifndef CAIRN_CORE_CODEC_DELTA_CODEC_H_
#define CAIRN_CORE_CODEC_DELTA_CODEC_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/codec/bit_stream.h"
#include "core/codec/plane_codec.h"
#include "core/codec/rans.h"

// Lossless coding of a block of numbers as its change against a block that the
// reader has: bit patterns, so NaNs and signed zeros come back as they were.
//
// Numbers that differ little have close places in the order of their bit
// patterns (sign and magnitude). What is coded is the distance in that order,
// under a table for each class of exponents of the base's numbers: a change of
// a thousandth moves a large number never and a small one by many places, and
// the exponent, which the reader knows, tells them apart. Blocks that did not
// change take a byte; where distances do not pay, byte planes of the new
// numbers or of both blocks' XOR are kept. README.md has the form.

namespace cairn {

// The longest block, and the best length for one.
inline constexpr size_t kDeltaBlockBytesMax = size_t{512} << 10;

// What the elements of a block are.
struct ElementForm {
  // Bytes of one element: 1, 2, 4 or 8.
  int width = 1;
  // Bits of the exponent right below the sign; 0 for integers.
  int exponent_bits = 0;
};

// What a coded block takes at most.
size_t DeltaCodedBytesMax(size_t block_bytes);

// The groups of elements that a block's map of changes speaks of.
inline constexpr size_t kDeltaGroup = 64;

// Encodes blocks; reuses its memory, some 4 MiB. Not thread-safe: one a thread.
class DeltaEncoder {
 public:
  // Appends to `out` what makes `tuned` of `base`: blocks of the same length,
  // at most kDeltaBlockBytesMax and whole elements.
  void Encode(absl::Span<const char> base, absl::Span<const char> tuned,
              ElementForm form, std::string& out);

 private:
  template <typename T>
  void Compare(const char* base, const char* tuned, size_t count,
               ElementForm form);
  // Fills class_of_ and frequencies_ from counts_.
  void Classify(size_t token_limit);
  void AppendDifferences(std::string& out);
  void AppendPlanes(absl::Span<const char> base, absl::Span<const char> tuned,
                    int width, size_t begin, std::string& out);

  std::vector<uint8_t> tokens_;
  std::vector<uint8_t> contexts_;
  std::vector<char> map_;
  BitWriter header_;
  BitWriter extra_;
  std::vector<uint32_t> counts_;  // 256 a context
  std::array<uint8_t, 256> class_of_ = {};
  std::vector<uint8_t> class_ends_;  // last context of each class
  std::vector<RansFrequencies> frequencies_;
  RansEncoder rans_;
  PlaneEncoder planes_;
  std::string attempt_;
  std::vector<char> xor_;
};

// Decodes what DeltaEncoder wrote. Not thread-safe: one a thread.
class DeltaDecoder {
 public:
  // Fills `tuned`, of base.size() bytes, from `base` and the whole of `coded`.
  // DATA_LOSS with what is wrong when `coded` does not describe such a block,
  // whatever its bytes; `tuned` then holds rubbish. Damage may also give other
  // numbers: their digest tells.
  absl::Status Decode(absl::string_view coded, absl::Span<const char> base,
                      ElementForm form, absl::Span<char> tuned);

 private:
  absl::Status DecodeDifferences(absl::string_view coded,
                                 absl::Span<const char> base, ElementForm form,
                                 absl::Span<char> tuned);
  // Reads tables into class_of_ and frequencies_.
  absl::Status ReadTables(BitReader& bits, size_t size, size_t token_limit);
  template <typename T>
  absl::Status Apply(const char* base, size_t count, ElementForm form,
                     const char* map, absl::Span<const char> extra,
                     char* tuned);

  std::vector<char> padded_;
  std::array<uint8_t, 256> class_of_ = {};
  std::vector<RansFrequencies> frequencies_;
  RansDecoder rans_;
  PlaneDecoder planes_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_DELTA_CODEC_H_
