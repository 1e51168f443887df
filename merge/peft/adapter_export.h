#ifndef CAIRN_MERGE_PEFT_ADAPTER_EXPORT_H_
#define CAIRN_MERGE_PEFT_ADAPTER_EXPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/peft/adapter_effects.h"
#include "merge/peft/lora_combination.h"

namespace cairn {

// What an adapter was merged to, and how far from the exact sum it is.
struct ExportedAdapter {
  struct Module {
    std::string name;
    int64_t rank = 0;
    // |what is missing| / |what was to be made|, Frobenius; see
    // CombineLoras(). 0 when nothing is.
    double residual = 0;
  };

  std::vector<Module> modules;  // by name
  double residual = 0;          // over all modules together
};

// Writes PEFT LoRAs, combined and weighted, as one LoRA into `directory`. With
// LoraCombination() factors are put side by side, so that the ranks add up and
// the sum is exact but for one rounding to F32; with `rank_max` a module of a
// higher rank is cut to the nearest of that rank. The scale is folded into B:
// alpha is r, rslora is off, and patterns name each module's rank. LoRAs on
// linear layers, embeddings and convolutions; INVALID_ARGUMENT naming adapter
// and tensor for everything else, since it depends on the base or replaces it,
// and for modules of which some come with fan_in_fan_out and some without.
absl::StatusOr<ExportedAdapter> ExportLora(
    const std::vector<WeightedAdapter>& adapters,
    const LoraCombination& combination, std::optional<int64_t> rank_max,
    const std::string& directory);

// Writes the product of IA3 adapters as one IA3, which is what they do one
// after the other. Weights must be 1, and adapters must scale a module that
// several have on the same side.
absl::StatusOr<ExportedAdapter> ExportIa3(
    const std::vector<WeightedAdapter>& adapters, const std::string& directory);

}  // namespace cairn

#endif  // CAIRN_MERGE_PEFT_ADAPTER_EXPORT_H_
