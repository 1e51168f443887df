#ifndef CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_
#define CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

// scale * B * A, whose factors are read piece by piece.
struct StreamedProduct {
  // Elements of a row-major matrix from `first` on.
  using Reader = std::function<absl::Status(int64_t first, absl::Span<float>)>;

  int64_t rank = 0;
  int64_t in = 0;
  int64_t out = 0;
  double scale = 1.0;
  Reader read_a;  // [rank, in]
  Reader read_b;  // [out, rank]
};

// Its Frobenius norm, summed in double: through the rank x rank Gram matrices,
// or block by block of the product, whichever is less work. Takes at most
// about 100 MB of memory whatever the factors' size.
absl::StatusOr<double> LowRankNorm(const StreamedProduct& product);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_LOW_RANK_NORM_H_
