#ifndef CAIRN_CORE_CODEC_PLANE_CODEC_H_
#define CAIRN_CORE_CODEC_PLANE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Lossless coding of blocks of numbers. The bytes of equal significance of all
// elements are put together ("planes"), and each plane is coded by zstd or
// kept as it is, whichever is shorter. Elements are rotated left by one bit
// first, so that the highest plane of BF16, F32 and F64 is the exponent
// without the sign: the one plane of trained weights that is far from random.
// The coded form of a block is described in README.md; it does not hold the
// block's length, which the reader knows.

namespace cairn {

// The longest block.
inline constexpr size_t kPlaneBlockBytesMax = size_t{16} << 20;

// True for the element widths in bytes that there are: 1, 2, 4 and 8.
bool IsPlaneWidth(int width);

// What a coded block of `block_bytes` bytes takes at most.
size_t PlaneCodedBytesMax(size_t block_bytes);

// Encodes blocks; reuses its memory, a few times the longest block. Not
// thread-safe: one a thread.
class PlaneEncoder {
 public:
  PlaneEncoder();
  ~PlaneEncoder();
  PlaneEncoder(PlaneEncoder&&) noexcept;
  PlaneEncoder& operator=(PlaneEncoder&&) noexcept;

  // Appends the coded form of `block`, at most kPlaneBlockBytesMax bytes of
  // elements of `width` bytes, to `out`. A block need not be whole elements.
  void Encode(absl::Span<const char> block, int width, std::string& out);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  std::vector<char> planes_;
};

// Decodes what PlaneEncoder wrote. Not thread-safe: one a thread.
class PlaneDecoder {
 public:
  PlaneDecoder();
  ~PlaneDecoder();
  PlaneDecoder(PlaneDecoder&&) noexcept;
  PlaneDecoder& operator=(PlaneDecoder&&) noexcept;

  // Fills `block`, which has the length of what was encoded, from the whole of
  // `coded`. DATA_LOSS with what is wrong when `coded` is anything else than
  // the coded form of a block of that length, whatever its bytes; `block` then
  // holds rubbish.
  absl::Status Decode(absl::string_view coded, absl::Span<char> block);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  std::vector<char> planes_;
};

// What a quick look says about coding some bytes.
struct PlaneProbe {
  // The width that makes them shortest.
  int width = 1;
  // Coded bytes by plain bytes of the sample at that width.
  double ratio = 1;
};

// Tries every width on `sample`: some 64 KiB, taken from several places of
// what is to be coded, at offsets that are multiples of 8. An empty sample
// has ratio 1.
PlaneProbe ProbePlanes(absl::Span<const char> sample, PlaneEncoder& encoder);

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_PLANE_CODEC_H_
