#ifndef CAIRN_MERGE_STRATEGY_TIES_STRATEGY_H_
#define CAIRN_MERGE_STRATEGY_TIES_STRATEGY_H_

#include <map>
#include <string>
#include <vector>

#include "merge/strategy/merge_strategy.h"

namespace cairn {

// TIES-Merging (Yadav et al. 2023) as the paper's code does it:
//   trim   each input to the share `density` of largest magnitude over the
//          whole flattened model (untouched elements count as zeros); all
//          that equal the threshold are kept;
//   elect  per element the sign of the sum of what is left;
//   merge  the mean of the values of that sign, times lambda.
// Values that cancel out exactly elect nothing and give zero.
class TiesStrategy : public MergeStrategy {
 public:
  struct Options {
    double lambda = 1.0;
    double density = 0.2;
    std::vector<double> weights;  // factors before trimming, one an input
    std::map<std::string, std::string> parameters;
  };

  explicit TiesStrategy(Options options);

  absl::string_view name() const override { return "ties"; }
  const std::map<std::string, std::string>& parameters() const override {
    return options_.parameters;
  }
  // Finds each input's exact threshold in two passes over the values: by the
  // upper half of their bits, then by the lower half within one bin.
  absl::Status Prepare(DeltaScan& scan) override;
  // lambda x weight: the factor on a value that no other input shares.
  std::vector<double> Coefficients() const override;
  void Combine(absl::Span<const TileDelta> deltas,
               absl::Span<float> out) const override;

 private:
  const Options options_;
  std::vector<float> thresholds_;  // on |value| before the weight
};

}  // namespace cairn

#endif  // CAIRN_MERGE_STRATEGY_TIES_STRATEGY_H_
