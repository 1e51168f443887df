#ifndef CAIRN_MERGE_STRATEGY_STRATEGY_H_
#define CAIRN_MERGE_STRATEGY_STRATEGY_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/update/strategies.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// How the deltas of several updates become one: a method of merge/method,
// whose base is zero and whose models are the deltas themselves, so that what
// it makes is added to the head. Immutable.
class Strategy {
 public:
  // For as many updates as there are `weights`, each a factor on an update's
  // delta (1 unless somebody asked for another). INVALID_ARGUMENT for a name
  // or parameter that there is not, or a value out of range; the message lists
  // what there is.
  static absl::StatusOr<Strategy> Make(absl::string_view name,
                                       const StrategyParameters& given,
                                       std::vector<double> weights);

  const std::string& name() const { return name_; }
  // As they are recorded, defaults filled in.
  const StrategyParameters& parameters() const { return parameters_; }
  const MethodSpec& method() const { return *method_; }
  const UpdateCare& care() const { return care_; }
  // Factors on the deltas as recorded: of what no other update shares.
  std::vector<double> Coefficients() const;

  // Whether the method looks at updates that do not touch a tensor, whose
  // deltas are zero there. Where they add nothing they can be left out.
  bool needs_untouched() const { return needs_untouched_; }
  // Whether TIES trims over the whole model: its density, else 0.
  double whole_density() const;
  // Factor on what the method gives.
  float scale() const { return scale_; }

  // The task of one tensor: input 0 is the zero base, input 1 + k is the delta
  // of update participants[k].
  MethodTask TaskFor(const std::vector<int64_t>& shape,
                     const std::vector<size_t>& participants) const;

 private:
  std::string name_;
  StrategyParameters parameters_;
  UpdateCare care_;
  std::vector<double> weights_;
  const MethodSpec* method_ = nullptr;
  std::map<std::string, double> numbers_;  // of the parameters
  bool needs_untouched_ = true;
  // Where lambda is part of the weights (sums, so that each delta is
  // multiplied once) or of the scale (methods that have none).
  double weight_factor_ = 1;
  float scale_ = 1;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_STRATEGY_STRATEGY_H_
