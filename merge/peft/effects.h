#ifndef CAIRN_MERGE_PEFT_EFFECTS_H_
#define CAIRN_MERGE_PEFT_EFFECTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "merge/delta/tensor_effect.h"

namespace cairn {

using Effect = std::shared_ptr<const TensorEffect>;

// A low-rank change of one [rows, columns] matrix, scale * left * right. A
// tensor of more axes is one of its flattened matrices.
struct LowRankBlock {
  std::vector<float> left = {};   // [rows, rank]
  std::vector<float> right = {};  // [rank, columns]
  int64_t rows = 0;
  int64_t rank = 0;
  int64_t columns = 0;
  float scale = 1;
};

// values += scale * left * right, block after block; blocks lie one after the
// other and cover the tensor.
Effect MakeLowRankEffect(std::vector<LowRankBlock> blocks);
// values += added, a whole small tensor.
Effect MakeAddedEffect(std::vector<float> added);
// values *= factors[(index / inner) % factors.size()]
Effect MakeScaledEffect(std::vector<float> factors, int64_t inner);
// values = the tensor of an adapter's file.
Effect MakeReplacedEffect(SharedSource file, TensorEntry entry);
// Rows of a matrix replaced: row rows[i] by row i of `values`.
Effect MakeRowsEffect(std::vector<int64_t> rows, std::vector<float> values,
                      int64_t columns);
// `first`, then `second` on what it gives.
Effect MakeChainedEffect(Effect first, Effect second);
// values += sum of weight x change, for effects whose change does not depend
// on the values.
struct WeightedEffect {
  Effect effect;
  float weight = 1;
};
Effect MakeSummedEffect(std::vector<WeightedEffect> parts);

// DoRA: `change` is applied and then every row (or column, where `inner` is 1)
// is brought to the length that `magnitudes` gives it. `read` gives the base's
// values, of which it is read once now.
using ReadValues =
    std::function<absl::Status(int64_t first, absl::Span<float> out)>;
absl::StatusOr<Effect> MakeDoraEffect(Effect change,
                                      const std::vector<float>& magnitudes,
                                      int64_t inner, int64_t elements,
                                      const ReadValues& read);

}  // namespace cairn

#endif  // CAIRN_MERGE_PEFT_EFFECTS_H_
