#ifndef CAIRN_MERGE_MODEL_FAMILIES_H_
#define CAIRN_MERGE_MODEL_FAMILIES_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/model/config_reader.h"
#include "merge/model/model.h"

namespace cairn {

// One function a family; each makes a model without values from config.json.
// `architecture` is one of the family's. `tensors` are those of the checkpoint
// that will fill it, which decide whether there is a head of its own and
// whether names have the prefix of the model inside; empty: names as
// transformers writes them. Errors are those of MakeModel().
using MakeFamily = absl::StatusOr<std::unique_ptr<Model>>(
    absl::string_view architecture, const ConfigReader& config,
    const ShapeMap& tensors);

MakeFamily MakeLlama;    // Llama, Mistral, Qwen2, Qwen3, Gemma, Phi-3, SmolLM3
MakeFamily MakeGpt2;     // GPT-2
MakeFamily MakeGptNeoX;  // GPT-NeoX, Pythia
MakeFamily MakeOpt;      // OPT
MakeFamily MakeT5;       // T5, Flan-T5
MakeFamily MakeBert;     // BERT, RoBERTa, DistilBERT with a classifier
MakeFamily MakeVit;      // ViT with a classifier
MakeFamily MakeClip;     // CLIP

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_FAMILIES_H_
