#ifndef CAIRN_MERGE_TRAIN_LOW_RANK_TUNING_H_
#define CAIRN_MERGE_TRAIN_LOW_RANK_TUNING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/train/tuning.h"

namespace cairn {

struct LowRankOptions {
  int64_t rank = 8;
  double alpha = 16;
  bool rank_stabilised = false;  // scale alpha / sqrt(rank) (rsLoRA)
  uint64_t seed = 0;             // of the initial A
};

// LoRA (Hu et al. 2021): W = W0 + s * B * A with A [rank, in], B [out, rank],
// s = alpha / rank. A starts as peft does, evenly in +-1/sqrt(in), B at zero.
class LowRankTuning : public Tuning {
 public:
  struct Factors {
    std::string name;  // of the weight
    at::Tensor a;      // views of values()
    at::Tensor b;
  };

  // INVALID_ARGUMENT when a weight is no matrix or the rank is out of range.
  static absl::StatusOr<std::unique_ptr<LowRankTuning>> Create(
      std::vector<TunedWeight> weights, const LowRankOptions& options);

  const std::vector<Factors>& factors() const { return factors_; }

  std::vector<ParameterRange> decayed() const override;
  void Apply() override;
  void Reduce(absl::Span<const float> gradient,
              absl::Span<float> out) const override;

 private:
  LowRankTuning(std::vector<TunedWeight> weights,
                const LowRankOptions& options);

  const double scale_;
  std::vector<at::Tensor> base_;  // W0 of each weight
  std::vector<Factors> factors_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_LOW_RANK_TUNING_H_
