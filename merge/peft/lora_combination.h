#ifndef CAIRN_MERGE_PEFT_LORA_COMBINATION_H_
#define CAIRN_MERGE_PEFT_LORA_COMBINATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/matrix/matrix.h"

namespace cairn {

// How the factors of several LoRAs become those of one: the combination types
// of peft's add_weighted_adapter.
struct LoraCombination {
  // What is merged.
  enum class Space {
    kSideBySide,  // cat: nothing; factors are put side by side
    kFactors,     // A and B each for itself, a rough approximation
    kProducts,    // B A, of which a singular value decomposition makes factors
  };
  enum class Rule { kSum, kTies, kDareLinear, kDareTies, kMagnitudePrune };
  enum class Majority { kTotal, kFrequency };

  Space space = Space::kSideBySide;
  Rule rule = Rule::kSum;
  // The share of each tensor's elements that is kept, by all but kSum.
  double density = 1;
  // What elects a sign: the sum of the values, or their number.
  Majority majority = Majority::kTotal;
  uint64_t seed = 0;

  // "cat", "svd", "linear", "ties_svd" and so on; none for another name.
  static std::optional<LoraCombination> Parse(absl::string_view name);
  static std::vector<std::string> Names();
};

// The factors of one module of one LoRA.
struct LoraPart {
  Matrix left;        // B: [out, rank]
  Matrix right;       // A: [rank, in]
  double weight = 1;  // of the adapter
  double scale = 1;   // of its product
  uint64_t random_key = 0;
};

struct CombinedFactors {
  Matrix left, right;
  // Squares of the norms of what was to be made and of what is missing.
  double whole = 0;
  double lost = 0;
};

// Combines the LoRAs of one module. With `rank_max` factors of a higher rank
// are cut to it by singular values. `lost` is what that costs and, for
// kFactors, what is between the result and the sum of the products.
// INVALID_ARGUMENT when kFactors is given ranks that differ, or a value is not
// finite.
absl::StatusOr<CombinedFactors> CombineLoras(
    const std::vector<LoraPart>& parts, const LoraCombination& combination,
    std::optional<int64_t> rank_max);

}  // namespace cairn

#endif  // CAIRN_MERGE_PEFT_LORA_COMBINATION_H_
