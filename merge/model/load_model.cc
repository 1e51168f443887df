#include "merge/model/load_model.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/device_name.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "merge/model/config_reader.h"
#include "merge/model/families.h"
#include "merge/model/llama_config.h"
#include "merge/model/torch_script.h"
#include "merge/tensor/compute.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

bool IsPickle(absl::string_view path) {
  for (absl::string_view end : {".bin", ".pt", ".pth", ".ckpt"}) {
    if (absl::EndsWith(path, end)) return true;
  }
  return false;
}

absl::Status Unsupported(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       message);
}

// A checkpoint on this machine is not a request: what is malformed in it is
// damaged.
absl::Status AsDamage(const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  const std::optional<ErrorReason> reason = GetReason(status);
  if (!reason.has_value()) return absl::DataLossError(status.message());
  return ReasonedError(absl::StatusCode::kDataLoss, reason->code,
                       status.message(), reason->details);
}

absl::StatusOr<at::Tensor> LoadTensor(const Checkpoint& checkpoint,
                                      const CheckpointTensor& entry,
                                      const LoadOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source,
                         checkpoint.OpenTensor(entry.name));
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor stored,
                         ReadTensor(*source, entry.dtype, entry.shape));
  return CatchTorch("loading a tensor", [&]() -> absl::StatusOr<at::Tensor> {
    if (!AllFinite(stored)) {
      return ReasonedError(
          absl::StatusCode::kDataLoss, "NON_FINITE",
          absl::StrCat("tensor ", entry.name, " in ", entry.file,
                       " holds a NaN or infinity; every weight should be "
                       "finite"),
          {{"tensor", entry.name}, {"file", entry.file}});
    }
    return stored.to(options.device, options.dtype);
  });
}

absl::StatusOr<ParameterMap> LoadParameters(const Checkpoint& checkpoint,
                                            const Model& model,
                                            const LoadOptions& options) {
  std::vector<const CheckpointTensor*> entries;
  ParameterMap parameters;
  for (const CheckpointTensor& entry : checkpoint.tensors()) {
    if (model.Ignores(entry.name)) continue;
    entries.push_back(&entry);
    parameters[entry.name];
  }
  CAIRN_RETURN_IF_ERROR(ParallelFor(
      options.threads, static_cast<int64_t>(entries.size()),
      [&](int64_t i) -> absl::Status {
        const CheckpointTensor& entry = *entries[static_cast<size_t>(i)];
        absl::StatusOr<at::Tensor> tensor =
            LoadTensor(checkpoint, entry, options);
        if (!tensor.ok()) {
          return Annotate(tensor.status(), absl::StrCat("tensor ", entry.name));
        }
        parameters.find(entry.name)->second = *std::move(tensor);
        return absl::OkStatus();
      }));
  return parameters;
}

struct Family {
  const char* architecture;
  MakeFamily* make;
};

// Beside the Llama family, which lists its own.
constexpr Family kFamilies[] = {
    {"GPT2LMHeadModel", MakeGpt2},
    {"GPTNeoXForCausalLM", MakeGptNeoX},
    {"OPTForCausalLM", MakeOpt},
    {"T5ForConditionalGeneration", MakeT5},
    {"BertForSequenceClassification", MakeBert},
    {"RobertaForSequenceClassification", MakeBert},
    {"DistilBertForSequenceClassification", MakeBert},
    {"ViTForImageClassification", MakeVit},
    {"CLIPModel", MakeClip},
};

std::string KnownArchitectures() {
  std::vector<std::string> names = LlamaConfig::Architectures();
  for (const Family& family : kFamilies) names.push_back(family.architecture);
  return absl::StrJoin(names, ", ");
}

// The model of a checkpoint without values: of a family, or of its TorchScript.
absl::StatusOr<std::unique_ptr<Model>> MakeModelOf(const Checkpoint& checkpoint,
                                                   const ShapeMap& tensors,
                                                   const LoadOptions& options) {
  absl::StatusOr<std::unique_ptr<Model>> model =
      MakeModel(checkpoint.config_json(), tensors);
  const auto script = checkpoint.files().find(kTorchScriptFile);
  if (!absl::IsUnimplemented(model.status()) ||
      script == checkpoint.files().end()) {
    return model;
  }
  if (options.torch_script == TorchScript::kRefuse) {
    return Unsupported(absl::StrCat(
        model.status().message(), "; ", kTorchScriptFile,
        " is there, but is code: `cairn evaluate --torchscript` runs it, and "
        "a hub where the policy has `torchscript: true`"));
  }
  if (options.dtype != at::kFloat || !options.device.is_cpu()) {
    return Unsupported(absl::StrCat(kTorchScriptFile,
                                    " runs in float32 on the processor only"));
  }
  return MakeTorchScript(checkpoint.config_json(), tensors, script->second);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeModel(absl::string_view config_json,
                                                 const ShapeMap& tensors) {
  CAIRN_ASSIGN_OR_RETURN(const std::string architecture,
                         ArchitectureOf(config_json));
  CAIRN_ASSIGN_OR_RETURN(const ConfigReader config,
                         ConfigReader::Parse(config_json));
  if (LlamaConfig::Knows(architecture)) {
    return MakeLlama(architecture, config, tensors);
  }
  for (const Family& family : kFamilies) {
    if (architecture == family.architecture) {
      return family.make(architecture, config, tensors);
    }
  }
  return Unsupported(
      absl::StrCat("architecture ", architecture, " is not supported; ",
                   KnownArchitectures(),
                   " are. A maintainer can export others to TorchScript: "
                   "torch.jit.trace(model, example).save(\"",
                   kTorchScriptFile, "\") beside config.json"));
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const LoadOptions& options) {
  if (checkpoint.config_json().empty() &&
      !checkpoint.files().contains("config.json")) {
    return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                         "config.json is missing beside the weights",
                         {{"file", "config.json"}});
  }
  ShapeMap shapes;
  for (const CheckpointTensor& entry : checkpoint.tensors()) {
    shapes[entry.name] = entry.shape;
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         MakeModelOf(checkpoint, shapes, options));
  std::erase_if(shapes,
                [&](const auto& entry) { return model->Ignores(entry.first); });
  CAIRN_RETURN_IF_ERROR(model->CheckTensors(shapes));
  CAIRN_ASSIGN_OR_RETURN(ParameterMap parameters,
                         LoadParameters(checkpoint, *model, options));
  CAIRN_RETURN_IF_ERROR(model->Fill(std::move(parameters)));
  return model;
}

absl::StatusOr<Checkpoint> OpenModelDirectory(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  bool has_safetensors = false, has_pickle = false;
  for (const auto& [path, source] : files) {
    has_safetensors |= absl::EndsWith(path, ".safetensors");
    has_pickle |= IsPickle(path);
  }
  if (has_pickle && !has_safetensors) {
    return Unsupported(
        absl::StrCat(directory,
                     " holds pickled weights, which can run code; save them as "
                     "safetensors (save_pretrained does)"));
  }
  absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(std::move(files));
  if (!checkpoint.ok()) return AsDamage(checkpoint.status());
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<Model>> LoadModelDirectory(
    const std::string& directory, const LoadOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                         OpenModelDirectory(directory));
  return LoadModel(checkpoint, options);
}

absl::StatusOr<at::Device> ParseDevice(absl::string_view text) {
  CAIRN_ASSIGN_OR_RETURN(const std::optional<int> index, ParseDeviceName(text));
  if (!index) return at::Device(at::kCPU);
  if (!at::hasCUDA() || *index >= static_cast<int>(at::getNumGPUs())) {
    return absl::FailedPreconditionError(
        absl::StrCat("device ", text, " is not there; cpu is"));
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(*index));
}

absl::StatusOr<at::ScalarType> ParseArithmetic(absl::string_view text) {
  if (text == "float32") return at::kFloat;
  if (text == "bfloat16") return at::kBFloat16;
  return absl::InvalidArgumentError(absl::StrCat(
      "dtype `", text, "` is unknown; it should be float32 or bfloat16"));
}

}  // namespace cairn
