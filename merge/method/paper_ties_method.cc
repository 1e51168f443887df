#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "merge/method/method_makers.h"
#include "merge/method/whole_model.h"

namespace cairn {
namespace {

// TIES-Merging (Yadav et al. 2023, arXiv 2306.01708) as the paper's code does
// it:
//   trim   each input to the share `density` of largest magnitude over the
//          whole flattened model; all that equal the threshold are kept;
//   elect  per element the sign of the sum of what is left;
//   merge  the mean of the values of that sign, times lambda.
class PaperTies : public TensorMethod {
 public:
  explicit PaperTies(const MethodTask& task)
      : base_(*task.base),
        others_(task.Others()),
        lambda_(static_cast<float>(task.Shared("lambda"))),
        majority_(task.whole == nullptr ? 0 : task.whole->majority) {
    for (size_t i : others_) {
      weights_.push_back(
          static_cast<float>(task.inputs[i].parameters.at("weight")));
      thresholds_.push_back(
          task.whole == nullptr
              ? 0.0f
              : task.whole->thresholds[task.inputs[i].participant]);
    }
  }

  void Combine(const InputTile& tile, float* out) override {
    const float* base = tile.inputs[base_];
    for (size_t i = 0; i < tile.count; ++i) {
      // Of the values as they are, which elect, and with their weights.
      float positive = 0, negative = 0;
      float positive_sum = 0, negative_sum = 0;
      int positives = 0, negatives = 0;
      for (size_t k = 0; k < others_.size(); ++k) {
        const float value = tile.inputs[others_[k]][i] - base[i];
        if (std::fabs(value) < thresholds_[k]) continue;
        if (value > 0) {
          positive += value;
          positive_sum += weights_[k] * value;
          ++positives;
        } else if (value < 0) {
          negative += value;
          negative_sum += weights_[k] * value;
          ++negatives;
        }
      }
      const float sum = positive + negative;
      const float sign = sum != 0 ? sum : static_cast<float>(majority_);
      float merged = 0;
      if (sign > 0 && positives > 0) {
        merged = lambda_ * (positive_sum / static_cast<float>(positives));
      } else if (sign < 0 && negatives > 0) {
        merged = lambda_ * (negative_sum / static_cast<float>(negatives));
      }
      out[i] = merged + base[i];
    }
  }

 private:
  const size_t base_;
  const std::vector<size_t> others_;
  const float lambda_;
  const int majority_;
  std::vector<float> weights_;
  std::vector<float> thresholds_;  // on |value| before the weight
};

}  // namespace

std::unique_ptr<TensorMethod> MakePaperTies(const MethodTask& task) {
  return std::make_unique<PaperTies>(task);
}

}  // namespace cairn
