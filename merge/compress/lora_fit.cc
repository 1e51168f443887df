#include "merge/compress/lora_fit.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/tensor/dtype.h"
#include "core/tensor/safetensors.h"
#include "core/update/adapter_config.h"
#include "core/update/update.h"
#include "merge/compress/low_rank_fit.h"
#include "merge/engine/piece_runner.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

// Factors as peft has them: a [rank, in], b [out, rank].
struct LoraModule {
  int64_t rank = 0;
  int64_t in = 0;
  int64_t out = 0;
  std::vector<float> a = {}, b = {};
};

std::vector<float> Transposed(const std::vector<float>& matrix, int64_t rows,
                              int64_t columns) {
  std::vector<float> out;
  out.reserve(matrix.size());
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      out.push_back(matrix[static_cast<size_t>(r * columns + c)]);
    }
  }
  return out;
}

// Whether the base stores [in, out], as GPT-2's Conv1D does.
bool IsFanInFanOut(const std::string& config_json) {
  const Json config = Json::parse(config_json, nullptr, false);
  return config.is_object() && config.value("model_type", "") == "gpt2";
}

LoraModule ToModule(FittedFactors factors, int64_t rows, int64_t columns,
                    bool is_transposed) {
  LoraModule module{.rank = factors.rank};
  if (!is_transposed) {
    module.in = columns;
    module.out = rows;
    module.a = std::move(factors.right);
    module.b = std::move(factors.left);
    return module;
  }
  module.in = rows;
  module.out = columns;
  module.a = Transposed(factors.left, rows, factors.rank);
  module.b = Transposed(factors.right, factors.rank, columns);
  return module;
}

absl::StatusOr<std::map<std::string, LoraModule>> FitModules(
    const ChangeSource& source, const LoraFitOptions& options,
    bool is_transposed) {
  std::vector<std::pair<std::string, const TensorSpec*>> wanted;
  for (const TensorSpec& tensor : source.tensors()) {
    absl::string_view module = tensor.name;
    if (!absl::ConsumeSuffix(&module, ".weight") || tensor.shape.size() != 2 ||
        tensor.elements() == 0 || IsEmbeddingOrHead(tensor.name)) {
      continue;
    }
    wanted.emplace_back(module, &tensor);
  }
  std::vector<LoraModule> fitted(wanted.size());
  CAIRN_RETURN_IF_ERROR(RunPieces(
      options.threads, static_cast<int64_t>(wanted.size()),
      [&](int, int64_t piece) -> absl::Status {
        const auto i = static_cast<size_t>(piece);
        const TensorSpec& tensor = *wanted[i].second;
        CAIRN_ASSIGN_OR_RETURN(const auto change, source.Open(tensor));
        CAIRN_ASSIGN_OR_RETURN(
            FittedFactors factors,
            FitLowRank(*change, tensor.shape[0], tensor.shape[1], options.rank,
                       tensor.name));
        if (factors.rank == 0) return absl::OkStatus();
        fitted[i] = ToModule(std::move(factors), tensor.shape[0],
                             tensor.shape[1], is_transposed);
        return absl::OkStatus();
      }));
  std::map<std::string, LoraModule> modules;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (fitted[i].rank > 0) modules[wanted[i].first] = std::move(fitted[i]);
  }
  if (modules.empty()) {
    return absl::FailedPreconditionError(
        "no matrix of a linear layer changed: a LoRA would be empty");
  }
  return modules;
}

Json ConfigOf(const std::map<std::string, LoraModule>& modules,
              const LoraFitOptions& options, bool is_transposed) {
  Json config = {{"peft_type", "LORA"},
                 {"base_model_name_or_path", options.base_path},
                 {"r", options.rank},
                 {"lora_alpha", options.rank},
                 {"lora_dropout", 0.0},
                 {"bias", "none"},
                 {"fan_in_fan_out", is_transposed},
                 {"inference_mode", true}};
  Json targets = Json::array(), ranks = Json::object();
  for (const auto& [name, module] : modules) {
    targets.push_back(name);
    // Small matrices have fewer directions.
    if (module.rank != options.rank) ranks[ModulePattern(name)] = module.rank;
  }
  config["target_modules"] = std::move(targets);
  config["rank_pattern"] = ranks;
  config["alpha_pattern"] = std::move(ranks);
  return config;
}

absl::Status WriteWeights(const std::map<std::string, LoraModule>& modules,
                          const std::string& path) {
  std::map<std::string, const std::vector<float>*> values;
  std::vector<TensorSpec> specs;
  for (const auto& [name, module] : modules) {
    const std::string key = absl::StrCat("base_model.model.", name);
    specs.push_back({.name = key + ".lora_A.weight",
                     .dtype = DType::kF32,
                     .shape = {module.rank, module.in}});
    values[specs.back().name] = &module.a;
    specs.push_back({.name = key + ".lora_B.weight",
                     .dtype = DType::kF32,
                     .shape = {module.out, module.rank}});
    values[specs.back().name] = &module.b;
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      SafetensorsWriter::Create(path, std::move(specs), {{"format", "pt"}}));
  std::string packed;
  for (const auto& [name, floats] : values) {
    packed.resize(4 * floats->size());
    FromFloats(DType::kF32, *floats, absl::MakeSpan(packed));
    CAIRN_RETURN_IF_ERROR(writer->Write(name, 0, packed));
  }
  return std::move(*writer).Finish();
}

}  // namespace

absl::Status WriteFittedLora(const ChangeSource& source,
                             const std::string& directory,
                             const LoraFitOptions& options) {
  const bool is_transposed = IsFanInFanOut(options.base_config_json);
  CAIRN_ASSIGN_OR_RETURN(const auto modules,
                         FitModules(source, options, is_transposed));
  CAIRN_RETURN_IF_ERROR(
      WriteWeights(modules, absl::StrCat(directory, "/", kAdapterWeightsFile)));
  return WriteFile(absl::StrCat(directory, "/", kAdapterConfigFile),
                   ConfigOf(modules, options, is_transposed).dump(2) + "\n");
}

}  // namespace cairn
