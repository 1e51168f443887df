#ifndef CAIRN_MERGE_TRAIN_SPARSE_TUNING_H_
#define CAIRN_MERGE_TRAIN_SPARSE_TUNING_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/train/tuning.h"

namespace cairn {

// Trains few single values and leaves all others as they are, bit for bit.
class SparseTuning : public Tuning {
 public:
  // `mask`: the trained positions in the vector of all weights given, one
  // after another; ascending, each below weight_count(). INVALID_ARGUMENT
  // otherwise.
  static absl::StatusOr<std::unique_ptr<SparseTuning>> Create(
      std::vector<TunedWeight> weights, std::vector<int64_t> mask);

  const std::vector<int64_t>& mask() const { return mask_; }

  std::vector<ParameterRange> decayed() const override { return {}; }
  void Apply() override;
  void Reduce(absl::Span<const float> gradient,
              absl::Span<float> out) const override;

 private:
  SparseTuning(std::vector<TunedWeight> weights, std::vector<int64_t> mask);

  const std::vector<int64_t> mask_;
  std::vector<float*> places_;  // of the masked values in the weights
};

// The FISH mask (Sung et al. 2021): positions of the `count` largest values
// of `fisher`, ascending; among equals the first positions win.
std::vector<int64_t> LargestPositions(absl::Span<const float> fisher,
                                      int64_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_SPARSE_TUNING_H_
