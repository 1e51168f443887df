#ifndef CAIRN_CORE_CODEC_GAP_MODELS_H_
#define CAIRN_CORE_CODEC_GAP_MODELS_H_

#include <cstddef>

#include "core/codec/rans.h"

namespace cairn {

// The gaps between positions that are listed at random, each with probability
// d, are geometric: P(gap >= g) = (1 - d)^g. Model m is the one for
// d = 2^(-m/4), so that none is more than a tenth off what a block has, which
// costs less than a hundredth of a bit a gap.
inline constexpr int kGapModels = 112;

struct GapModel {
  // Of the tokens of gaps (element_order.h) and of `skip`.
  RansFrequencies frequencies = {};
  // The token that says: the gap is as long as this token's first number, and
  // goes on with the next token. Gaps have no memory, so that this costs
  // nothing and the table needs no tokens of rare lengths.
  size_t skip = 0;
};

// The model of 1 <= m < kGapModels, made in integers alone: the same
// everywhere.
const GapModel& GapModelOf(int model);

// The model for `count` positions of `span` elements, at most as many.
int NearestGapModel(double count, double span);

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_GAP_MODELS_H_
