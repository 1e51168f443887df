#ifndef CAIRN_MERGE_STRATEGY_LINEAR_STRATEGY_H_
#define CAIRN_MERGE_STRATEGY_LINEAR_STRATEGY_H_

#include <map>
#include <string>
#include <vector>

#include "merge/strategy/merge_strategy.h"

namespace cairn {

// A weighted sum of the deltas, in float32 and in the order of the inputs.
// Average (Wortsman et al. 2022, "Model soups") has coefficients 1/n; task
// arithmetic (Ilharco et al. 2023) has lambda for each.
class LinearStrategy : public MergeStrategy {
 public:
  LinearStrategy(std::string name,
                 std::map<std::string, std::string> parameters,
                 std::vector<double> coefficients);

  absl::string_view name() const override { return name_; }
  const std::map<std::string, std::string>& parameters() const override {
    return parameters_;
  }
  absl::Status Prepare(DeltaScan& scan) override;
  std::vector<double> Coefficients() const override { return coefficients_; }
  void Combine(absl::Span<const TileDelta> deltas,
               absl::Span<float> out) const override;

 private:
  const std::string name_;
  const std::map<std::string, std::string> parameters_;
  const std::vector<double> coefficients_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_STRATEGY_LINEAR_STRATEGY_H_
