#ifndef CAIRN_MERGE_PEFT_ADAPTER_EFFECTS_H_
#define CAIRN_MERGE_PEFT_ADAPTER_EFFECTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/update/adapter_steps.h"
#include "merge/engine/model_source.h"

namespace cairn {

// An adapter's directory and a factor on its change.
struct WeightedAdapter {
  std::string directory;
  double weight = 1.0;
};

struct AdaptedModel {
  ModelEffects effects;
  ConfigChange config;
};

// What adapters do to the tensors of `base`, which outlives the result: one
// PEFT adapter (LoRA of every kind, IA3, SHiRA) or Cairn update of weight 1, as
// peft's merge_and_unload; or the weighted sum of several LoRAs, as peft adds
// them with "cat". Adapters are checked whole now; factors are read anew when
// an effect is loaded. INVALID_ARGUMENT naming adapter, file and tensor or
// field for what cannot be merged, does not fit the base or holds a NaN;
// NOT_FOUND for what is not there; DATA_LOSS for a damaged file.
absl::StatusOr<AdaptedModel> OpenAdapters(
    const ModelSource& base, std::vector<WeightedAdapter> adapters);

// The text of config.json with the change; `label` names it in errors.
absl::StatusOr<std::string> ApplyToConfig(const ConfigChange& change,
                                          absl::string_view config_json,
                                          absl::string_view label);

}  // namespace cairn

#endif  // CAIRN_MERGE_PEFT_ADAPTER_EFFECTS_H_
