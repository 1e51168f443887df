#ifndef CAIRN_MERGE_PEFT_PEFT_ADAPTER_H_
#define CAIRN_MERGE_PEFT_PEFT_ADAPTER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "merge/engine/model_source.h"
#include "merge/peft/adapter_effects.h"
#include "merge/peft/effects.h"

namespace cairn {

// What one adapter does to its base.
struct AdapterChanges {
  std::map<std::string, Effect> effects;
  std::vector<TensorSpec> added;  // see ModelEffects
  ConfigChange config;
  // What about it cannot be summed with others, e.g. "DoRA"; else empty.
  std::string not_additive;
};

// Reads a PEFT adapter: LoRA on linear layers, embeddings, convolutions and
// fused experts, with rank and alpha patterns, rslora, biases, DoRA, modules
// saved whole, trained tokens and a resized vocabulary; and IA3. Every tensor
// of the file is used and finite. Errors as OpenAdapters().
absl::StatusOr<AdapterChanges> OpenPeftAdapter(const ModelSource& base,
                                               const ByteSource& config,
                                               SharedSource weights);

}  // namespace cairn

#endif  // CAIRN_MERGE_PEFT_PEFT_ADAPTER_H_
