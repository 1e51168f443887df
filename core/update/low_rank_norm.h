#ifndef CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_
#define CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_

#include "core/update/update.h"

namespace cairn {

// Frobenius norm of scale * B * A in double, without the product in memory:
// through the r x r Gram matrices or row by row, whichever is less work.
double LowRankNorm(const LoraFactors& factors);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_
