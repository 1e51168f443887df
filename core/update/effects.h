#ifndef CAIRN_CORE_UPDATE_EFFECTS_H_
#define CAIRN_CORE_UPDATE_EFFECTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/tensor_effect.h"
#include "core/update/update.h"

namespace cairn {

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
// The factors as they multiply to the base's tensor, as it stores it.
LowRankBlock Orient(LoraFactors factors);

// values += scale * left * right, block after block; blocks lie one after the
// other and cover the tensor.
Effect MakeLowRankEffect(std::vector<LowRankBlock> blocks);
// values += added, a whole small tensor.
Effect MakeAddedEffect(std::vector<float> added);
// values *= factors[(index / inner) % factors.size()]
Effect MakeScaledEffect(std::vector<float> factors, int64_t inner);
// The tensor of a file takes the place of as many leading elements.
Effect MakeReplacedEffect(SharedSource file, TensorEntry entry);
// Rows of a matrix replaced: row rows[i] by row i of `values`.
Effect MakeRowsEffect(std::vector<int64_t> rows, std::vector<float> values,
                      int64_t columns);
// values[positions[i]] += added[i]; a position may come again.
Effect MakeScatteredEffect(std::vector<int64_t> positions,
                           std::vector<float> added);
// The replacement values of an update, which outlives the effect, as do the
// base's bytes.
Effect MakeReplacementEffect(const Update& update, std::string tensor,
                             const BaseValues& base);
// values += what an update that carries differences changes; `bytes` of it are
// in memory.
Effect MakeDifferenceEffect(std::unique_ptr<const ChangeReader> change,
                            int64_t bytes);
// `first`, then `second` on what it gives.
Effect MakeChainedEffect(Effect first, Effect second);
// values += sum of weight x change, for effects whose change does not depend
// on the values. Low-rank ones become one: an element is then a single sum over
// their ranks in order, of factors times weight and scale.
struct WeightedEffect {
  Effect effect;
  float weight = 1;
};
Effect MakeSummedEffect(std::vector<WeightedEffect> parts);

// What `make` makes, of `bytes` in memory: for a while when it is loaded, else
// for every range anew. Nothing is made before.
using MakeEffect = std::function<absl::StatusOr<Effect>()>;
Effect MakeDeferredEffect(MakeEffect make, int64_t bytes);

// DoRA: `change` is applied and then every row (or column, where `inner` is 1)
// is brought to the length that `magnitudes` gives it. `read` gives the base's
// values, of which it is read once now.
using ReadValues =
    std::function<absl::Status(int64_t first, absl::Span<float> out)>;
absl::StatusOr<Effect> MakeDoraEffect(Effect change,
                                      const std::vector<float>& magnitudes,
                                      int64_t inner, int64_t elements,
                                      const ReadValues& read);

// Elements of the change from `first` on. `base` is a buffer to use.
absl::Status ReadChange(const TensorEffect& effect, const BaseValues& values,
                        int64_t first, std::vector<float>& base,
                        absl::Span<float> change);
// Frobenius norm of the change of a tensor, summed in double.
absl::StatusOr<double> ChangeNorm(const TensorEffect& effect,
                                  const BaseValues& values, int64_t elements);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_EFFECTS_H_
