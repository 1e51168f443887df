#include "core/codec/gap_models.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "core/codec/element_order.h"

namespace cairn {
namespace {

constexpr int kOneBits = 62;
constexpr uint64_t kOne = uint64_t{1} << kOneBits;
// 2^(-k/4) in units of 2^-62, k from 0 to 3.
constexpr std::array<uint64_t, 4> kRoots = {
    0x4000000000000000, 0x35d13f32b5a75abd, 0x2d413cccfe779921,
    0x260dfc14636e2a5b};
// Longer gaps than one in so many have are told by skipping.
constexpr uint64_t kRare = 512;

uint64_t Product(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >>
                               kOneBits);
}

// base^exponent, in units of 2^-62.
uint64_t Power(uint64_t base, uint64_t exponent) {
  uint64_t result = kOne;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = Product(result, base);
    base = Product(base, base);
  }
  return result;
}

GapModel MakeGapModel(int model) {
  const uint64_t rest =
      kOne - (kRoots[static_cast<size_t>(model % 4)] >> (model / 4));
  GapModel out;
  std::array<uint32_t, 256> counts = {};
  uint64_t from = kOne;  // P(gap >= first number of the token)
  const auto units = [](uint64_t probability) {
    return static_cast<uint32_t>(
        std::max<uint64_t>(1, probability >> (kOneBits - 30)));
  };
  for (size_t token = 0;; ++token) {
    if (from <= kOne / kRare) {
      out.skip = token;
      counts[token] = units(from);
      break;
    }
    const uint64_t to = Power(rest, kTokenRanges[token + 1].first);
    counts[token] = units(from - to);
    from = to;
  }
  out.frequencies = ScaleCounts(counts);
  return out;
}

}  // namespace

const GapModel& GapModelOf(int model) {
  static const auto& models = *[] {
    auto* all = new std::array<GapModel, kGapModels>;
    for (int m = 1; m < kGapModels; ++m) {
      (*all)[static_cast<size_t>(m)] = MakeGapModel(m);
    }
    return all;
  }();
  return models[static_cast<size_t>(model)];
}

int NearestGapModel(double count, double span) {
  return std::clamp(static_cast<int>(std::lround(4 * std::log2(span / count))),
                    1, kGapModels - 1);
}

}  // namespace cairn
