#ifndef CAIRN_CORE_UPDATE_STRATEGIES_H_
#define CAIRN_CORE_UPDATE_STRATEGIES_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// The strategies by which a hub merges updates: the one list, for the hub that
// checks what is asked for and for the worker that does it.

struct StrategyParameter {
  enum class Kind { kNumber, kInteger, kBool };

  std::string name;
  // As recorded when it is not given; none: it is left out.
  std::optional<std::string> fallback;
  double least = 0;
  double most = 0;
  Kind kind = Kind::kNumber;
  bool is_above = false;  // `least` itself does not fit
};

struct StrategySpec {
  std::string name;
  std::string summary;
  std::vector<StrategyParameter> parameters;

  // Whether there is a lambda to search for.
  bool has_lambda() const { return Find("lambda") != nullptr; }
  const StrategyParameter* Find(absl::string_view parameter) const;
};

// Sorted by name.
absl::Span<const StrategySpec> AllStrategies();
// Null when there is none of that name.
const StrategySpec* FindStrategy(absl::string_view name);

// What every strategy takes besides its own parameters:
//   clip_norm         "median" or a number: longer updates are scaled down
//   duplicates        "refuse": no two updates may be as good as equal
//   duplicate_cosine  from which cosine on they are (0.98)
struct UpdateCare {
  std::optional<double> clip_norm;  // 0: the median
  bool refuses_duplicates = false;
  double duplicate_cosine = 0.98;
};

using StrategyParameters = std::map<std::string, std::string>;

// The parameters with defaults filled in, as they are recorded.
// INVALID_ARGUMENT for an unknown strategy (the message lists them) or
// parameter, or a value out of range.
absl::StatusOr<StrategyParameters> CompleteStrategy(
    absl::string_view strategy, const StrategyParameters& given);

// Whether the parameters that all strategies have are of the right kind and in
// range; any other is an error.
absl::Status CheckCare(const StrategyParameters& given);
// The care that parameters which were checked ask for.
UpdateCare CareOf(const StrategyParameters& parameters);

// The fewest updates that a strategy merges with parameters that were checked.
int UpdatesMin(absl::string_view strategy,
               const StrategyParameters& parameters);

// "average, breadcrumbs, ..."
std::string StrategyNames();

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_STRATEGIES_H_
