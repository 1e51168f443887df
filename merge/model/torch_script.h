#ifndef CAIRN_MERGE_MODEL_TORCH_SCRIPT_H_
#define CAIRN_MERGE_MODEL_TORCH_SCRIPT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"
#include "merge/model/model.h"

namespace cairn {

// A model whose forward is a TorchScript module and whose parameters are those
// of the checkpoint, by name. What it does goes by its class in config.json:
//   *ForCausalLM, *LMHeadModel      forward(ids [1, T]) -> [1, T, vocabulary]
//   *ForSequenceClassification      forward(ids [1, T]) -> [1, labels]
//   *ForImageClassification         forward(pixels [1, C, H, W]) likewise
// Texts may take attention_mask [1, T] as well, and classifiers token_type_ids
// after that. Tied parameters may stand in the checkpoint once; buffers that it
// lacks are the module's own. It runs in F32 on the processor, one item at a
// time. Errors as TorchScriptGraph's and MakeModel's.
absl::StatusOr<std::unique_ptr<Model>> MakeTorchScript(
    absl::string_view config_json, const ShapeMap& tensors, SharedSource file);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_TORCH_SCRIPT_H_
