#ifndef CAIRN_MERGE_COMPRESS_LOW_RANK_FIT_H_
#define CAIRN_MERGE_COMPRESS_LOW_RANK_FIT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/delta/update_delta.h"

namespace cairn {

// left * right, the scale of both shared evenly.
struct FittedFactors {
  int64_t rank = 0;  // as many as asked for, or the matrix has directions
  std::vector<float> left;   // [rows, rank]
  std::vector<float> right;  // [rank, columns]
};

// The nearest product of rank `rank` to a [rows, columns] change, close to the
// truncated singular value decomposition: a randomised search for the range
// with two power iterations (Halko, Martinsson and Tropp, SIAM Review 53,
// 2011, algorithms 4.4 and 5.1). Reads the change six times in rows and holds
// 16 (rank + 8) (rows + columns) bytes. `name` seeds the search, so that the
// same change gives the same factors everywhere.
absl::StatusOr<FittedFactors> FitLowRank(const TensorDelta& change,
                                         int64_t rows, int64_t columns,
                                         int64_t rank, absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_LOW_RANK_FIT_H_
