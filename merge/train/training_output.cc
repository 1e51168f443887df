#include "merge/train/training_output.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/release/file_policy.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

constexpr size_t kTileBytes = 1 << 20;

absl::Status WriteRounded(SafetensorsWriter& writer, const TensorSpec& tensor,
                          absl::Span<const float> values) {
  std::vector<char> bytes(static_cast<size_t>(tensor.size_bytes()));
  FromFloats(tensor.dtype, values, absl::MakeSpan(bytes));
  return writer.Write(tensor.name, 0, bytes);
}

absl::Status CopyTensor(const Checkpoint& base, SafetensorsWriter& writer,
                        const TensorSpec& tensor) {
  std::vector<char> tile;
  const int64_t size = tensor.size_bytes();
  for (int64_t at = 0; at < size; at += static_cast<int64_t>(tile.size())) {
    tile.resize(std::min(kTileBytes, static_cast<size_t>(size - at)));
    CAIRN_RETURN_IF_ERROR(
        base.ReadBytes(tensor.name, at, absl::MakeSpan(tile)));
    CAIRN_RETURN_IF_ERROR(writer.Write(tensor.name, at, tile));
  }
  return absl::OkStatus();
}

absl::Status CopySource(const ByteSource& source, const std::string& path) {
  std::string bytes(static_cast<size_t>(source.size()), '\0');
  CAIRN_RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(bytes)));
  return WriteFile(path, bytes);
}

bool TravelsAlong(absl::string_view path) {
  return !absl::EndsWith(path, ".safetensors") &&
         path != kReleaseDocumentFile && CheckReleaseFile(path).ok();
}

}  // namespace

absl::Status WriteTunedCheckpoint(const Checkpoint& base,
                                  const TrainedValues& trained,
                                  const std::string& directory) {
  for (const auto& [path, header] : base.headers()) {
    const std::vector<TensorSpec> tensors(header.tensors().begin(),
                                          header.tensors().end());
    CAIRN_ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::Create(
                                            absl::StrCat(directory, "/", path),
                                            tensors, header.metadata()));
    for (const TensorSpec& tensor : tensors) {
      const absl::Span<const float> values = trained(tensor.name);
      CAIRN_RETURN_IF_ERROR(values.empty()
                                ? CopyTensor(base, *writer, tensor)
                                : WriteRounded(*writer, tensor, values));
    }
    CAIRN_RETURN_IF_ERROR(std::move(*writer).Finish());
  }
  for (const auto& [path, source] : base.files()) {
    if (!TravelsAlong(path)) continue;
    CAIRN_RETURN_IF_ERROR(
        CopySource(*source, absl::StrCat(directory, "/", path)));
  }
  return absl::OkStatus();
}

absl::Status WriteNewCheckpoint(const std::string& config_path,
                                const std::vector<TensorSpec>& tensors,
                                const TrainedValues& trained,
                                const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      SafetensorsWriter::Create(absl::StrCat(directory, "/model.safetensors"),
                                tensors, {{"format", "pt"}}));
  for (const TensorSpec& tensor : tensors) {
    CAIRN_RETURN_IF_ERROR(WriteRounded(*writer, tensor, trained(tensor.name)));
  }
  CAIRN_RETURN_IF_ERROR(std::move(*writer).Finish());
  const std::filesystem::path config(config_path);
  std::set<std::filesystem::path> beside = {config};
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(
           config.has_parent_path() ? config.parent_path() : ".", error)) {
    const std::string name = entry.path().filename();
    if (entry.is_regular_file() && TravelsAlong(name) &&
        name != "config.json" && name != "model.safetensors.index.json") {
      beside.insert(entry.path());
    }
  }
  for (const auto& path : beside) {
    CAIRN_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    const std::string name =
        path == config ? "config.json" : path.filename().string();
    CAIRN_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/", name), bytes));
  }
  return absl::OkStatus();
}

absl::Status WriteAdapter(const std::vector<LowRankTuning::Factors>& factors,
                          const LowRankOptions& options,
                          const std::vector<std::string>& targets,
                          const std::string& base_path,
                          const std::string& directory) {
  std::vector<TensorSpec> specs;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& factor : factors) {
    const absl::string_view module = absl::StripSuffix(factor.name, ".weight");
    for (const auto& [part, tensor] :
         {std::pair("lora_A", factor.a), std::pair("lora_B", factor.b)}) {
      tensors.emplace_back(
          absl::StrCat("base_model.model.", module, ".", part, ".weight"),
          tensor);
      specs.push_back({tensors.back().first,
                       DType::kF32,
                       {tensor.size(0), tensor.size(1)}});
    }
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto writer, SafetensorsWriter::Create(
                       absl::StrCat(directory, "/adapter_model.safetensors"),
                       specs, {{"format", "pt"}}));
  for (size_t i = 0; i < specs.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(
        WriteRounded(*writer, specs[i], FloatsOf(tensors[i].second)));
  }
  CAIRN_RETURN_IF_ERROR(std::move(*writer).Finish());
  const nlohmann::ordered_json config = {
      {"peft_type", "LORA"},
      {"task_type", "CAUSAL_LM"},
      {"base_model_name_or_path", base_path},
      {"r", options.rank},
      {"lora_alpha", options.alpha},
      {"use_rslora", options.rank_stabilised},
      {"target_modules", targets},
      {"lora_dropout", 0.0},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"modules_to_save", nullptr},
      {"rank_pattern", nlohmann::json::object()},
      {"alpha_pattern", nlohmann::json::object()},
  };
  return WriteFile(absl::StrCat(directory, "/adapter_config.json"),
                   config.dump(2) + "\n");
}

}  // namespace cairn
