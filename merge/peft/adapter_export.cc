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
#include "core/update/update.h"
#include "merge/matrix/decompose.h"

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
  auto config = AdapterConfig::Parse(text, kAdapterConfigFile,
                                     AdapterKinds::kAll);
  if (!config.ok()) return Annotate(config.status(), wanted.directory);
  adapter.config = *std::move(config);
  adapter.json = Json::parse(text, nullptr, false);
  FileMap weights;
  weights["model.safetensors"] = files.at(kAdapterWeightsFile);
  auto opened = Checkpoint::Open(std::move(weights));
  if (!opened.ok()) return Annotate(opened.status(), wanted.directory);
  adapter.tensors = std::make_shared<Checkpoint>(*std::move(opened));
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
  CAIRN_RETURN_IF_ERROR(
      Annotate(adapter.tensors->ReadFloats(tensor.name, 0,
                                           absl::MakeSpan(values)),
               adapter.directory));
  for (float value : values) {
    if (std::isfinite(value)) continue;
    return ReasonedError(absl::StatusCode::kInvalidArgument, "NON_FINITE",
                         absl::StrCat(adapter.directory, ": tensor ",
                                      tensor.name,
                                      " holds a NaN or an infinity"),
                         {{"tensor", tensor.name}});
  }
  return values;
}

// The factors of one module, of all adapters side by side: left [out, rank],
// right [rank, in], scale and weight folded into left.
struct Factors {
  bool is_embedding = false;
  bool is_transposed = false;       // fan_in_fan_out
  std::vector<int64_t> left_shape;  // of B, with the rank of the first
  std::vector<int64_t> right_shape;
  Matrix left, right;
};

// Places `block` at the end of `whole`, as further rows or columns.
void AppendRows(const Matrix& block, Matrix& whole) {
  Matrix both(whole.rows() + block.rows(), block.columns());
  std::copy(whole.values().begin(), whole.values().end(),
            both.values().begin());
  std::copy(block.values().begin(), block.values().end(),
            both.values().begin() +
                static_cast<std::ptrdiff_t>(whole.values().size()));
  whole = std::move(both);
}

void AppendColumns(const Matrix& block, Matrix& whole) {
  Matrix both(block.rows(), whole.columns() + block.columns());
  for (int64_t r = 0; r < block.rows(); ++r) {
    if (whole.columns() > 0) {
      std::copy_n(whole.row(r), whole.columns(), both.row(r));
    }
    std::copy_n(block.row(r), block.columns(), both.row(r) + whole.columns());
  }
  whole = std::move(both);
}

// Gathers the factors of all adapters by module.
class LoraSum {
 public:
  absl::Status Add(const Adapter& adapter) {
    if (adapter.config.is_ia3) {
      return absl::InvalidArgumentError(
          absl::StrCat(adapter.directory, " is IA3 and no LoRA"));
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
      return Refuse(adapter, a.name,
                    absl::StrCat("has the shape ", ShapeText(a.shape),
                                 " beside ", ShapeText(b.shape),
                                 ", which are no factors of rank ",
                                 adapter.config.RankOf(module)));
    }
    Factors& factors = modules_[module];
    if (factors.left_shape.empty()) {
      factors.is_embedding = is_embedding;
      factors.is_transposed = adapter.config.fan_in_fan_out;
      factors.left_shape = b.shape;
      factors.right_shape = a.shape;
    }
    std::vector<int64_t> left = b.shape, right = a.shape;
    left[1] = factors.left_shape[1];
    right[0] = factors.right_shape[0];
    if (left != factors.left_shape || right != factors.right_shape ||
        factors.is_embedding != is_embedding ||
        factors.is_transposed != adapter.config.fan_in_fan_out) {
      return Refuse(adapter, a.name,
                    "does not fit the factors of the adapters before it");
    }
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> a_values, Read(adapter, a));
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> b_values, Read(adapter, b));
    AppendRows(Matrix(MatrixView(a_values.data(), rank, a.elements() / rank)),
               factors.right);
    Matrix scaled(MatrixView(b_values.data(), b.shape[0], rank));
    ScaleBy(adapter.weight * adapter.config.ScaleOf(module), scaled);
    AppendColumns(scaled, factors.left);
    return absl::OkStatus();
  }

  std::map<std::string, Factors> modules_;
};

// Cuts factors to a rank and adds the squares of what was and what was cut.
absl::Status Cut(int64_t rank, Factors& factors, double& whole, double& cut) {
  constexpr double kTolerance = 1e-12;
  CAIRN_ASSIGN_OR_RETURN(const Basis left,
                         OrthonormalBasis(factors.left, kTolerance));
  CAIRN_ASSIGN_OR_RETURN(
      const Basis right,
      OrthonormalBasis(MatrixView(factors.right).Transposed(), kTolerance));
  const Matrix core =
      Multiply(left.r, MatrixView(right.r).Transposed());
  CAIRN_ASSIGN_OR_RETURN(const Svd svd, DecomposeSingular(core, 0));
  for (int64_t i = 0; i < svd.rank(); ++i) {
    const double square = svd.values[static_cast<size_t>(i)] *
                          svd.values[static_cast<size_t>(i)];
    whole += square;
    if (i >= rank) cut += square;
  }
  const int64_t kept = std::min(rank, svd.rank());
  std::vector<double> roots;
  for (int64_t i = 0; i < kept; ++i) {
    roots.push_back(std::sqrt(svd.values[static_cast<size_t>(i)]));
  }
  Matrix u(MatrixView(svd.left).Columns(0, kept));
  Matrix v(MatrixView(svd.right).Columns(0, kept));
  ScaleColumns(roots, u);
  ScaleColumns(roots, v);
  // At least rank 1, of zeros, so that the module is still there.
  const int64_t columns = std::max<int64_t>(1, kept);
  Matrix new_left(factors.left.rows(), columns);
  Matrix new_right(columns, factors.right.columns());
  if (kept > 0) {
    new_left = Multiply(left.q, u);
    new_right = Matrix(MatrixView(Multiply(right.q, v)).Transposed());
  }
  factors.left = std::move(new_left);
  factors.right = std::move(new_right);
  return absl::OkStatus();
}

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
  CAIRN_RETURN_IF_ERROR(WriteFile(
      absl::StrCat(directory, "/", kAdapterWeightsFile), bytes));
  return WriteFile(absl::StrCat(directory, "/", kAdapterConfigFile),
                   config.dump(2, ' ', false,
                               Json::error_handler_t::replace) +
                       "\n");
}

// What the first adapter says about its base and task.
Json CommonConfig(const Adapter& adapter, const char* type) {
  Json config;
  config["peft_type"] = type;
  for (const char* key :
       {"task_type", "base_model_name_or_path", "revision"}) {
    if (adapter.json.is_object() && adapter.json.contains(key)) {
      config[key] = adapter.json[key];
    }
  }
  config["inference_mode"] = true;
  return config;
}

}  // namespace

absl::StatusOr<ExportedAdapter> ExportLora(
    const std::vector<WeightedAdapter>& wanted, std::optional<int64_t> rank_max,
    const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Adapter> adapters, OpenAll(wanted));
  LoraSum sum;
  for (const Adapter& adapter : adapters) {
    CAIRN_RETURN_IF_ERROR(sum.Add(adapter));
  }
  ExportedAdapter exported;
  MadeTensors tensors;
  Json ranks = Json::object();
  int64_t largest = 1;
  double all = 0, all_cut = 0;
  bool is_transposed = false;
  for (auto& [name, factors] : sum.modules()) {
    double whole = 0, cut = 0;
    if (rank_max && factors.left.columns() > *rank_max) {
      CAIRN_RETURN_IF_ERROR(
          Annotate(Cut(*rank_max, factors, whole, cut), name));
    } else {
      // |B A|^2 = <B^T B, A A^T>
      whole = Dot(GramOf(factors.left),
                  GramOf(MatrixView(factors.right).Transposed()));
    }
    const int64_t rank = factors.left.columns();
    exported.modules.push_back(
        {.name = name,
         .rank = rank,
         .residual = whole > 0 ? std::sqrt(cut / whole) : 0.0});
    all += whole;
    all_cut += cut;
    largest = std::max(largest, rank);
    ranks[name] = rank;
    is_transposed |= factors.is_transposed;
    factors.left_shape[1] = factors.right_shape[0] = rank;
    const std::string key = absl::StrCat(kPrefix, name);
    const bool is_embedding = factors.is_embedding;
    tensors[key + (is_embedding ? ".lora_embedding_A" : ".lora_A.weight")] = {
        factors.right_shape, Floats(factors.right)};
    tensors[key + (is_embedding ? ".lora_embedding_B" : ".lora_B.weight")] = {
        factors.left_shape, Floats(factors.left)};
  }
  exported.residual = all > 0 ? std::sqrt(all_cut / all) : 0.0;
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
    if (!adapter.config.is_ia3 || adapter.weight != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          adapter.directory,
          adapter.config.is_ia3
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
        return Refuse(adapter, tensor.name,
                      absl::StrCat("has the shape ", ShapeText(tensor.shape),
                                   " and ", ShapeText(made.shape),
                                   " in an adapter before it"));
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
