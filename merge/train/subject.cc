#include "merge/train/subject.h"

#include <ATen/Functions.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/engine/model_identity.h"
#include "merge/model/config_reader.h"
#include "merge/model/load_model.h"
#include "merge/train/random.h"

namespace cairn {
namespace {

// Streams of the initial weights start here, one a tensor.
constexpr uint64_t kInitialStream = 1000;

constexpr char kTrainable[] = "LlamaForCausalLM";

absl::Status CheckArchitecture(const std::string& config_json) {
  CAIRN_ASSIGN_OR_RETURN(const std::string architecture,
                         ArchitectureOf(config_json));
  if (architecture == kTrainable) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kUnimplemented, "UNSUPPORTED",
      absl::StrCat("config.json: architecture ", architecture,
                   " cannot be trained here; ", kTrainable, " can"));
}

// The type that a new model is stored in: what config.json says, else BF16.
absl::StatusOr<DType> StoredDType(const nlohmann::json& config) {
  const std::string name =
      config.value("dtype", config.value("torch_dtype", "bfloat16"));
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float16") return DType::kF16;
  if (name == "float32") return DType::kF32;
  return absl::InvalidArgumentError(
      absl::StrCat("config.json: torch_dtype is ", name,
                   "; must be bfloat16, float16 or float32"));
}

at::Tensor InitialWeight(const ParameterSpec& spec, double range,
                         const CounterRandom& random) {
  at::Tensor tensor = at::empty(spec.shape, at::kFloat);
  const bool is_matrix = spec.shape.size() == 2;
  const float constant = absl::EndsWith(spec.name, ".bias") ? 0.0F : 1.0F;
  const absl::Span<float> floats = FloatsOf(tensor);
  for (size_t i = 0; i < floats.size(); ++i) {
    floats[i] =
        is_matrix ? static_cast<float>(range * random.Normal(i)) : constant;
  }
  return tensor;
}

bool IsTarget(absl::string_view name, const std::vector<std::string>& targets) {
  for (const std::string& target : targets) {
    if (absl::EndsWith(name, absl::StrCat(".", target, ".weight"))) {
      return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Subject>> Subject::Load(
    const TrainRequest& request) {
  std::unique_ptr<Subject> subject(new Subject());
  CAIRN_RETURN_IF_ERROR(
      request.model.empty()
          ? subject->MakeNew(request.init_config, request.trainer.seed)
          : subject->LoadCheckpoint(request.model, request.threads));
  const int64_t longest = subject->model().longest_input();
  if (request.trainer.window > longest) {
    return absl::InvalidArgumentError(
        absl::StrCat("--window ", request.trainer.window, "; the model takes ",
                     longest, " tokens at most"));
  }
  return subject;
}

absl::Status Subject::LoadCheckpoint(const std::string& directory,
                                     int threads) {
  CAIRN_ASSIGN_OR_RETURN(checkpoint_, Checkpoint::OpenDirectory(directory));
  CAIRN_RETURN_IF_ERROR(CheckArchitecture(checkpoint_->config_json()));
  CAIRN_ASSIGN_OR_RETURN(const ModelIdentity identity,
                         IdentifyModel(*checkpoint_, threads));
  digest_ = identity.digest;
  ParameterMap parameters;
  ShapeMap shapes;
  for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
    at::Tensor weight = at::empty(tensor.shape, at::kFloat);
    CAIRN_RETURN_IF_ERROR(
        checkpoint_->ReadFloats(tensor.name, 0, FloatsOf(weight)));
    tensors_.push_back(tensor);
    shapes[tensor.name] = tensor.shape;
    parameters.emplace(tensor.name, std::move(weight));
  }
  CAIRN_ASSIGN_OR_RETURN(model_, MakeModel(checkpoint_->config_json(), shapes));
  return model_->Fill(std::move(parameters));
}

absl::Status Subject::MakeNew(const std::string& config_path, uint64_t seed) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path));
  CAIRN_RETURN_IF_ERROR(CheckArchitecture(text));
  CAIRN_ASSIGN_OR_RETURN(model_, MakeModel(text, {}));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  CAIRN_ASSIGN_OR_RETURN(const DType dtype, StoredDType(json));
  const double range = json.value("initializer_range", 0.02);
  digest_ = Digest::Of(text).prefixed();
  ParameterMap parameters;
  uint64_t stream = kInitialStream;
  for (const ParameterSpec& spec : model_->parameter_specs()) {
    tensors_.push_back({spec.name, dtype, spec.shape});
    parameters.emplace(
        spec.name, InitialWeight(spec, range, CounterRandom(seed, stream++)));
  }
  return model_->Fill(std::move(parameters));
}

int64_t Subject::parameters() const {
  int64_t count = 0;
  for (const TensorSpec& tensor : tensors_) count += tensor.elements();
  return count;
}

std::vector<TunedWeight> Subject::WeightsToTune(
    const TrainRequest& request) const {
  std::vector<TunedWeight> weights;
  for (const auto& [name, tensor] : model_->parameters()) {
    bool chosen = true;
    if (request.method == TuningMethod::kLora) {
      chosen = IsTarget(name, request.targets);
    } else if (request.method == TuningMethod::kSparse) {
      chosen = tensor.dim() == 2 && (request.train_embeddings ||
                                     absl::StartsWith(name, "model.layers."));
    }
    if (!chosen) continue;
    weights.push_back({name, tensor});
    weights.back().tensor.requires_grad_(true);
  }
  return weights;
}

ForwardFunction Subject::forward() const {
  return [this](const at::Tensor& ids) { return model().Forward(ids); };
}

}  // namespace cairn
