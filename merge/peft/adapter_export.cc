#include "merge/peft/adapter_export.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/checkpoint.h"
#include "core/update/adapter_config.h"
#include "core/update/manifest.h"
#include "core/update/update.h"
#include "merge/matrix/matrix.h"
#include "merge/method/counter_random.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kPrefix[] = "base_model.model.";
constexpr int64_t kConfigBytesMax = 1 << 20;

// A tensor to be written.
struct Made {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using MadeTensors = std::map<std::string, Made>;

// An adapter's directory, open.
struct Adapter {
  std::string directory;
  double weight = 1;
  AdapterConfig config;
  Json json;  // the configuration as it is written
  std::shared_ptr<Checkpoint> tensors;
  uint64_t content = 0;  // of its files' digest
};

absl::Status Refuse(const Adapter& adapter, absl::string_view tensor,
                    absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
      absl::StrCat(adapter.directory, "/", kAdapterWeightsFile, ": tensor ",
                   tensor, " ", what, "; merge it into its base instead"),
      {{"tensor", std::string(tensor)}});
}

absl::StatusOr<Adapter> Open(const WeightedAdapter& wanted) {
  CAIRN_ASSIGN_OR_RETURN(const FileMap files,
                         OpenDirectorySources(wanted.directory));
  for (const char* name : {kAdapterConfigFile, kAdapterWeightsFile}) {
    if (files.contains(name)) continue;
    return absl::NotFoundError(
        absl::StrCat(wanted.directory, " has no ", name));
  }
  Adapter adapter;
  adapter.directory = wanted.directory;
  adapter.weight = wanted.weight;
  CAIRN_ASSIGN_OR_RETURN(
      const std::string text,
      ReadAll(*files.at(kAdapterConfigFile), kConfigBytesMax));
  auto config = AdapterConfig::Parse(text, kAdapterConfigFile);
  if (!config.ok()) return Annotate(config.status(), wanted.directory);
  adapter.config = *std::move(config);
  adapter.json = Json::parse(text, nullptr, false);
  FileMap weights;
  weights["model.safetensors"] = files.at(kAdapterWeightsFile);
  auto opened = Checkpoint::Open(std::move(weights));
  if (!opened.ok()) return Annotate(opened.status(), wanted.directory);
  adapter.tensors = std::make_shared<Checkpoint>(*std::move(opened));
  CAIRN_ASSIGN_OR_RETURN(const std::vector<v1::File> described,
                         DescribeUpdateFiles(files));
  const std::string digest = UpdateDigest(described);
  adapter.content = std::stoull(
      std::string(absl::StripPrefix(digest, "sha256:")).substr(0, 16), nullptr,
      16);
  return adapter;
}

absl::StatusOr<std::vector<Adapter>> OpenAll(
    const std::vector<WeightedAdapter>& wanted) {
  std::vector<Adapter> adapters;
  for (const WeightedAdapter& one : wanted) {
    CAIRN_ASSIGN_OR_RETURN(adapters.emplace_back(), Open(one));
  }
  return adapters;
}

absl::StatusOr<std::vector<float>> Read(const Adapter& adapter,
                                        const CheckpointTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  CAIRN_RETURN_IF_ERROR(Annotate(
      adapter.tensors->ReadFloats(tensor.name, 0, absl::MakeSpan(values)),
      adapter.directory));
  for (float value : values) {
    if (std::isfinite(value)) continue;
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat(adapter.directory, ": tensor ", tensor.name,
                     " holds a NaN or an infinity"),
        {{"tensor", tensor.name}});
  }
  return values;
}

// The factors of one module, of all adapters that have it.
struct Factors {
  bool is_embedding = false;
  bool is_transposed = false;       // fan_in_fan_out
  std::vector<int64_t> left_shape;  // of B, with the rank of the first
  std::vector<int64_t> right_shape;
  std::vector<LoraPart> parts;
};

// Gathers the factors of all adapters by module.
class LoraSum {
 public:
  // `seed` is that of random masks.
  explicit LoraSum(uint64_t seed) : seed_(seed) {}

  absl::Status Add(const Adapter& adapter) {
    if (adapter.config.kind != AdapterKind::kLora) {
      return absl::InvalidArgumentError(
          absl::StrCat(adapter.directory, " is no LoRA"));
    }
    if (adapter.config.use_dora) {
      return absl::InvalidArgumentError(absl::StrCat(
          adapter.directory,
          ": DoRA depends on the base; merge it into its base instead"));
    }
    if (!adapter.config.target_parameters.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(adapter.directory,
                       ": target_parameters have factors for every expert, "
                       "which are not put side by side; merge it into its "
                       "base instead"));
    }
    for (const CheckpointTensor& tensor : adapter.tensors->tensors()) {
      CAIRN_RETURN_IF_ERROR(AddTensor(adapter, tensor));
    }
    return absl::OkStatus();
  }

  std::map<std::string, Factors>& modules() { return modules_; }

 private:
  absl::Status AddTensor(const Adapter& adapter,
                         const CheckpointTensor& tensor) {
    static constexpr std::pair<const char*, const char*> kSuffixes[] = {
        {".lora_A.weight", ".lora_B.weight"},
        {".lora_embedding_A", ".lora_embedding_B"}};
    absl::string_view module = tensor.name;
    if (!absl::ConsumePrefix(&module, kPrefix)) {
      return Refuse(adapter, tensor.name,
                    absl::StrCat("does not begin with ", kPrefix));
    }
    for (const auto& [a, b] : kSuffixes) {
      // The second factor is read with the first.
      if (absl::EndsWith(module, b)) {
        absl::string_view stem = absl::StripSuffix(tensor.name, b);
        if (adapter.tensors->Find(absl::StrCat(stem, a)) != nullptr) {
          return absl::OkStatus();
        }
        return Refuse(adapter, tensor.name, "has no other factor");
      }
      if (!absl::ConsumeSuffix(&module, a)) continue;
      const std::string other =
          absl::StrCat(absl::StripSuffix(tensor.name, a), b);
      const CheckpointTensor* left = adapter.tensors->Find(other);
      if (left == nullptr) {
        return Refuse(adapter, tensor.name, "has no other factor");
      }
      return AddFactors(adapter, std::string(module), tensor, *left,
                        a == kSuffixes[1].first);
    }
    // peft stores the base's own embeddings beside a LoRA on them.
    if (absl::EndsWith(module, ".base_layer.weight")) return absl::OkStatus();
    return Refuse(adapter, tensor.name,
                  "is no factor of a LoRA: it depends on the base or replaces "
                  "it");
  }

  absl::Status AddFactors(const Adapter& adapter, const std::string& module,
                          const CheckpointTensor& a, const CheckpointTensor& b,
                          bool is_embedding) {
    const int64_t rank = a.shape.empty() ? 0 : a.shape[0];
    if (a.shape.size() < 2 || b.shape.size() < 2 || b.shape[1] != rank ||
        rank == 0 || b.elements() != b.shape[0] * rank ||
        (!is_embedding && rank != adapter.config.RankOf(module))) {
      return Refuse(
          adapter, a.name,
          absl::StrCat("has the shape ", ShapeText(a.shape), " beside ",
                       ShapeText(b.shape), ", which are no factors of rank ",
                       adapter.config.RankOf(module)));
    }
    Factors& factors = modules_[module];
    if (factors.left_shape.empty()) {
      factors.is_embedding = is_embedding;
      // Embeddings are stored one way only.
      factors.is_transposed = !is_embedding && adapter.config.fan_in_fan_out;
      factors.left_shape = b.shape;
      factors.right_shape = a.shape;
    }
    std::vector<int64_t> left = b.shape, right = a.shape;
    left[1] = factors.left_shape[1];
    right[0] = factors.right_shape[0];
    if (left != factors.left_shape || right != factors.right_shape ||
        factors.is_embedding != is_embedding ||
        factors.is_transposed !=
            (!is_embedding && adapter.config.fan_in_fan_out)) {
      return Refuse(adapter, a.name,
                    "does not fit the factors of the adapters before it");
    }
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> a_values, Read(adapter, a));
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> b_values, Read(adapter, b));
    factors.parts.push_back(
        {.left = Matrix(MatrixView(b_values.data(), b.shape[0], rank)),
         .right =
             Matrix(MatrixView(a_values.data(), rank, a.elements() / rank)),
         .weight = adapter.weight,
         .scale = adapter.config.ScaleOf(module),
         .random_key = RandomKey(seed_, adapter.content, module)});
    return absl::OkStatus();
  }

  const uint64_t seed_;
  std::map<std::string, Factors> modules_;
};

std::vector<float> Floats(const Matrix& matrix) {
  std::vector<float> floats;
  floats.reserve(matrix.values().size());
  for (double value : matrix.values()) {
    floats.push_back(static_cast<float>(value));
  }
  return floats;
}

absl::Status WriteAdapter(const MadeTensors& tensors, const Json& config,
                          const std::string& directory) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, made] : tensors) {
    specs.push_back({.name = name, .dtype = DType::kF32, .shape = made.shape});
  }
  CAIRN_ASSIGN_OR_RETURN(
      const SafetensorsLayout layout,
      LayOutSafetensors(std::move(specs), {{"format", "pt"}}));
  std::string bytes = layout.header;
  for (const TensorEntry& entry : layout.tensors) {
    const std::vector<float>& values = tensors.at(entry.name).values;
    std::string packed(values.size() * sizeof(float), '\0');
    FromFloats(DType::kF32, values, absl::MakeSpan(packed));
    bytes += packed;
  }
  CAIRN_RETURN_IF_ERROR(
      WriteFile(absl::StrCat(directory, "/", kAdapterWeightsFile), bytes));
  return WriteFile(
      absl::StrCat(directory, "/", kAdapterConfigFile),
      config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Whether the modules are stored [in, out]. A configuration says it for all of
// them, so that they have to agree; embeddings do not matter.
absl::StatusOr<bool> IsTransposed(
    const std::map<std::string, Factors>& modules) {
  const std::string* by_kind[2] = {nullptr, nullptr};
  for (const auto& [name, factors] : modules) {
    if (!factors.is_embedding) by_kind[factors.is_transposed] = &name;
  }
  if (by_kind[0] == nullptr || by_kind[1] == nullptr) {
    return by_kind[1] != nullptr;
  }
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
      absl::StrCat("module ", *by_kind[1], " comes with fan_in_fan_out and ",
                   *by_kind[0],
                   " without it, which one adapter cannot say: merge them "
                   "into their base instead"),
      {{"field", "fan_in_fan_out"}});
}

// What the first adapter says about its base and task.
Json CommonConfig(const Adapter& adapter, const char* type) {
  Json config;
  config["peft_type"] = type;
  for (const char* key : {"task_type", "base_model_name_or_path", "revision"}) {
    if (adapter.json.is_object() && adapter.json.contains(key)) {
      config[key] = adapter.json[key];
    }
  }
  config["inference_mode"] = true;
  return config;
}

}  // namespace

absl::StatusOr<ExportedAdapter> ExportLora(
    const std::vector<WeightedAdapter>& wanted,
    const LoraCombination& combination, std::optional<int64_t> rank_max,
    const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Adapter> adapters, OpenAll(wanted));
  LoraSum sum(combination.seed);
  for (const Adapter& adapter : adapters) {
    CAIRN_RETURN_IF_ERROR(sum.Add(adapter));
  }
  ExportedAdapter exported;
  MadeTensors tensors;
  Json ranks = Json::object();
  int64_t largest = 1;
  double all = 0, all_lost = 0;
  CAIRN_ASSIGN_OR_RETURN(const bool is_transposed, IsTransposed(sum.modules()));
  for (auto& [name, factors] : sum.modules()) {
    auto combined = CombineLoras(factors.parts, combination, rank_max);
    if (!combined.ok()) return Annotate(combined.status(), name);
    const int64_t rank = combined->left.columns();
    const double whole = combined->whole, lost = combined->lost;
    exported.modules.push_back(
        {.name = name,
         .rank = rank,
         .residual = whole > 0 ? std::sqrt(lost / whole) : 0.0});
    all += whole;
    all_lost += lost;
    largest = std::max(largest, rank);
    ranks[ModulePattern(name)] = rank;
    factors.left_shape[1] = factors.right_shape[0] = rank;
    const std::string key = absl::StrCat(kPrefix, name);
    const bool is_embedding = factors.is_embedding;
    tensors[key + (is_embedding ? ".lora_embedding_A" : ".lora_A.weight")] = {
        factors.right_shape, Floats(combined->right)};
    tensors[key + (is_embedding ? ".lora_embedding_B" : ".lora_B.weight")] = {
        factors.left_shape, Floats(combined->left)};
    factors.parts.clear();
  }
  exported.residual = all > 0 ? std::sqrt(all_lost / all) : 0.0;
  Json config = CommonConfig(adapters.front(), "LORA");
  config["r"] = largest;
  config["lora_alpha"] = largest;
  config["lora_dropout"] = 0.0;
  config["bias"] = "none";
  config["use_rslora"] = false;
  config["use_dora"] = false;
  config["fan_in_fan_out"] = is_transposed;
  for (const auto& module : exported.modules) {
    config["target_modules"].push_back(module.name);
  }
  config["rank_pattern"] = ranks;
  config["alpha_pattern"] = ranks;
  CAIRN_RETURN_IF_ERROR(WriteAdapter(tensors, config, directory));
  return exported;
}

absl::StatusOr<ExportedAdapter> ExportIa3(
    const std::vector<WeightedAdapter>& wanted, const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Adapter> adapters, OpenAll(wanted));
  ExportedAdapter exported;
  MadeTensors tensors;
  std::set<std::string> targets, forward;
  for (const Adapter& adapter : adapters) {
    if (adapter.config.kind != AdapterKind::kIa3 || adapter.weight != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          adapter.directory,
          adapter.config.kind == AdapterKind::kIa3
              ? ": IA3 adapters are multiplied, so that their weights must be 1"
              : " is no IA3 adapter; LoRAs are merged --as lora"));
    }
    for (const CheckpointTensor& tensor : adapter.tensors->tensors()) {
      absl::string_view module = tensor.name;
      if (!absl::ConsumePrefix(&module, kPrefix) ||
          !absl::ConsumeSuffix(&module, ".ia3_l")) {
        return Refuse(adapter, tensor.name, "is no vector of IA3");
      }
      CAIRN_ASSIGN_OR_RETURN(std::vector<float> values, Read(adapter, tensor));
      const std::string name(module);
      targets.insert(name);
      for (const std::string& suffix : adapter.config.feedforward_modules) {
        if (name == suffix || absl::EndsWith(name, absl::StrCat(".", suffix))) {
          forward.insert(name);
        }
      }
      Made& made = tensors[tensor.name];
      if (made.values.empty()) {
        made = {tensor.shape, std::move(values)};
        continue;
      }
      if (made.shape != tensor.shape) {
        return Refuse(
            adapter, tensor.name,
            absl::StrCat("has the shape ", ShapeText(tensor.shape), " and ",
                         ShapeText(made.shape), " in an adapter before it"));
      }
      for (size_t i = 0; i < values.size(); ++i) made.values[i] *= values[i];
    }
  }
  Json config = CommonConfig(adapters.front(), "IA3");
  config["fan_in_fan_out"] = adapters.front().config.fan_in_fan_out;
  config["target_modules"] = targets;
  config["feedforward_modules"] = forward;
  for (const std::string& name : targets) {
    exported.modules.push_back({.name = name, .rank = 0, .residual = 0});
  }
  CAIRN_RETURN_IF_ERROR(WriteAdapter(tensors, config, directory));
  return exported;
}

}  // namespace cairn
