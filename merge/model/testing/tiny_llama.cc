#include "merge/model/testing/tiny_llama.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/tensor/safetensors.h"
#include "merge/model/load_model.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn::testing {

std::string TinyConfig(const std::string& more) {
  constexpr std::pair<const char*, const char*> kKeys[] = {
      {"\"architectures\"", R"(["LlamaForCausalLM"])"},
      {"\"model_type\"", R"("llama")"},
      {"\"vocab_size\"", "13"},
      {"\"hidden_size\"", "16"},
      {"\"intermediate_size\"", "24"},
      {"\"num_hidden_layers\"", "2"},
      {"\"num_attention_heads\"", "4"},
      {"\"num_key_value_heads\"", "2"},
      {"\"max_position_embeddings\"", "300"},
      {"\"bos_token_id\"", "1"},
      {"\"eos_token_id\"", "[2, 3]"}};
  std::string json = absl::StrCat("{", more);
  for (const auto& [key, value] : kKeys) {
    if (absl::StrContains(more, key)) continue;
    absl::StrAppend(&json, json.size() > 1 ? ", " : "", key, ": ", value);
  }
  return json + "}";
}

ParameterMap TinyParameters(const std::string& config_json) {
  ParameterMap parameters;
  at::manual_seed(7);
  const auto model = MakeModel(config_json, {});
  CAIRN_CHECK(model.ok());
  for (const ParameterSpec& spec : (*model)->parameter_specs()) {
    at::Tensor value = at::randn(spec.shape);
    if (spec.shape.size() == 1) {
      value = 1 + 0.2 * value;
    } else {
      value = value / std::sqrt(static_cast<double>(spec.shape[1]));
    }
    parameters[spec.name] = value;
  }
  return parameters;
}

std::unique_ptr<LanguageModel> MakeTinyModel(const std::string& config_json,
                                             ParameterMap parameters) {
  ShapeMap shapes;
  for (const auto& [name, value] : parameters) {
    shapes[name] = value.sizes().vec();
  }
  absl::StatusOr<std::unique_ptr<Model>> model = MakeModel(config_json, shapes);
  CAIRN_CHECK(model.ok());
  CAIRN_CHECK((*model)->Fill(std::move(parameters)).ok());
  CAIRN_CHECK((*model)->language() != nullptr);
  return std::unique_ptr<LanguageModel>(
      static_cast<LanguageModel*>(model->release()));
}

std::unique_ptr<LanguageModel> MakeTinyLlama() {
  return MakeTinyModel(TinyConfig(), TinyParameters());
}

FileMap MakeCheckpointFiles(const std::string& config_json,
                            const ParameterMap& parameters) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, value] : parameters) {
    specs.push_back({.name = name,
                     .dtype = ToDType(value.scalar_type()),
                     .shape = value.sizes().vec()});
  }
  absl::StatusOr<SafetensorsLayout> layout =
      LayOutSafetensors(specs, {{"format", "pt"}});
  CAIRN_CHECK(layout.ok());
  std::string file = layout->header;
  for (const TensorEntry& entry : layout->tensors) {
    const at::Tensor value = parameters.find(entry.name)->second.contiguous();
    const absl::Span<const char> bytes = TensorBytes(value);
    file.append(bytes.data(), bytes.size());
  }
  FileMap files;
  files["config.json"] = MakeMemorySource(config_json);
  files["model.safetensors"] = MakeMemorySource(std::move(file));
  return files;
}

at::Tensor SomeIds(int64_t length) {
  return (at::arange(length, at::kLong) * 7 % kTinyVocab).unsqueeze(0);
}

}  // namespace cairn::testing
