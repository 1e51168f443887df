#include "core/tensor/checkpoint.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr int64_t kIndexBytesMax = 16 << 20;
constexpr int64_t kConfigBytesMax = 1 << 20;

absl::Status Malformed(absl::string_view file, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(file, ": ", what),
                       {{"file", std::string(file)}});
}

// Shards lie beside their index.
absl::Status CheckShardName(const std::string& shard, absl::string_view label) {
  if (!shard.empty() && !absl::StrContains(shard, "/") &&
      !absl::StrContains(shard, "\\") &&
      absl::EndsWith(shard, ".safetensors")) {
    return absl::OkStatus();
  }
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
      absl::StrCat(label, ": weight_map names the file ",
                   JsonQuote(shard.substr(0, 200)),
                   "; shards are *.safetensors beside the index"),
      {{"file", std::string(label)}});
}

using WeightMap = absl::flat_hash_map<std::string, std::string>;

absl::StatusOr<WeightMap> ReadIndex(const ByteSource& file) {
  auto text = ReadAll(file, kIndexBytesMax);
  if (!text.ok()) return Annotate(text.status(), kIndexFile);
  CAIRN_ASSIGN_OR_RETURN(JsonValue root, JsonValue::Parse(*text, kIndexFile));
  const JsonValue* map = root.Find("weight_map");
  if (map == nullptr || map->as_object() == nullptr) {
    return Malformed(kIndexFile, "has no object \"weight_map\"");
  }
  WeightMap weights;
  for (const auto& [tensor, shard] : *map->as_object()) {
    if (shard.as_string() == nullptr) {
      return Malformed(
          kIndexFile,
          absl::StrCat("weight_map: tensor ", JsonQuote(tensor), " is ",
                       shard.type_text(), "; it must be the name of a file"));
    }
    CAIRN_RETURN_IF_ERROR(CheckShardName(*shard.as_string(), kIndexFile));
    weights[tensor] = *shard.as_string();
  }
  if (weights.empty()) return Malformed(kIndexFile, "names no tensor");
  return weights;
}

absl::StatusOr<SafetensorsHeader> ReadShard(const FileMap& files,
                                            const std::string& name) {
  auto it = files.find(name);
  if (it == files.end()) {
    return Malformed(name,
                     absl::StrCat("is missing; ", kIndexFile, " names it"));
  }
  return SafetensorsHeader::Read(*it->second, name);
}

// The shards together hold exactly what the index says, where it says.
absl::Status CheckIndex(const WeightMap& weights,
                        const std::vector<CheckpointTensor>& tensors) {
  for (const CheckpointTensor& tensor : tensors) {
    auto it = weights.find(tensor.name);
    if (it == weights.end() || it->second != tensor.file) {
      return Malformed(
          kIndexFile, absl::StrCat("tensor ", JsonQuote(tensor.name),
                                   " lies in ", tensor.file, " but weight_map ",
                                   it == weights.end()
                                       ? std::string("does not name it")
                                       : absl::StrCat("says ", it->second)));
    }
  }
  if (weights.size() == tensors.size()) return absl::OkStatus();
  std::string missing;
  for (const auto& [name, shard] : weights) {
    bool found = std::binary_search(
        tensors.begin(), tensors.end(), name, [](const auto& a, const auto& b) {
          if constexpr (std::is_same_v<std::decay_t<decltype(a)>,
                                       std::string>) {
            return a < b.name;
          } else {
            return a.name < b;
          }
        });
    if (!found && (missing.empty() || name < missing)) missing = name;
  }
  return Malformed(
      kIndexFile,
      absl::StrCat("weight_map names tensor ", JsonQuote(missing), ", which ",
                   weights.at(missing), " does not hold"));
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(FileMap files) {
  Checkpoint out;
  WeightMap weights;
  auto index = files.find(kIndexFile);
  if (files.contains(kSingleFile)) {
    CAIRN_ASSIGN_OR_RETURN(out.headers_[kSingleFile],
                           ReadShard(files, kSingleFile));
  } else if (index != files.end()) {
    CAIRN_ASSIGN_OR_RETURN(weights, ReadIndex(*index->second));
    for (const auto& [tensor, shard] : weights) {
      if (out.headers_.contains(shard)) continue;
      CAIRN_ASSIGN_OR_RETURN(out.headers_[shard], ReadShard(files, shard));
    }
  } else {
    return absl::NotFoundError(absl::StrCat("no checkpoint: neither ",
                                            kSingleFile, " nor ", kIndexFile,
                                            " is there"));
  }
  for (const auto& [file, header] : out.headers_) {
    for (const TensorEntry& entry : header.tensors()) {
      CheckpointTensor tensor;
      static_cast<TensorEntry&>(tensor) = entry;
      tensor.file = file;
      out.tensors_.push_back(std::move(tensor));
    }
  }
  std::sort(out.tensors_.begin(), out.tensors_.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < out.tensors_.size(); ++i) {
    const CheckpointTensor& a = out.tensors_[i - 1];
    if (a.name != out.tensors_[i].name) continue;
    return Malformed(out.tensors_[i].file,
                     absl::StrCat("tensor ", JsonQuote(a.name),
                                  " is in this file and in ", a.file));
  }
  if (out.tensors_.size() > static_cast<size_t>(kSafetensorsTensorsMax)) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat("the checkpoint has ",
                                      out.tensors_.size(), " tensors; at most ",
                                      kSafetensorsTensorsMax, " are allowed"));
  }
  if (!weights.empty()) {
    CAIRN_RETURN_IF_ERROR(CheckIndex(weights, out.tensors_));
  }
  if (auto config = files.find("config.json"); config != files.end()) {
    auto text = ReadAll(*config->second, kConfigBytesMax);
    if (!text.ok()) return Annotate(text.status(), "config.json");
    out.config_json_ = *std::move(text);
  }
  out.files_ = std::move(files);
  return out;
}

absl::StatusOr<Checkpoint> Checkpoint::OpenDirectory(
    const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  auto checkpoint = Open(std::move(files));
  if (!checkpoint.ok()) return Annotate(checkpoint.status(), directory);
  return checkpoint;
}

const CheckpointTensor* Checkpoint::Find(absl::string_view name) const {
  auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const CheckpointTensor& tensor, absl::string_view key) {
        return absl::string_view(tensor.name) < key;
      });
  return it == tensors_.end() || it->name != name ? nullptr : &*it;
}

int64_t Checkpoint::tensor_bytes() const {
  int64_t total = 0;
  for (const CheckpointTensor& tensor : tensors_) {
    total += tensor.end - tensor.begin;
  }
  return total;
}

absl::StatusOr<std::unique_ptr<ByteSource>> Checkpoint::OpenTensor(
    absl::string_view name) const {
  const CheckpointTensor* tensor = Find(name);
  if (tensor == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the checkpoint has no tensor ", JsonQuote(name)));
  }
  return MakeSliceSource(files_.at(tensor->file), tensor->begin,
                         tensor->end - tensor->begin);
}

absl::Status Checkpoint::ReadBytes(absl::string_view name, int64_t offset,
                                   absl::Span<char> out) const {
  CAIRN_ASSIGN_OR_RETURN(auto source, OpenTensor(name));
  auto status = source->ReadAt(offset, out);
  return Annotate(status, absl::StrCat("tensor ", JsonQuote(name)));
}

absl::Status Checkpoint::ReadFloats(absl::string_view name, int64_t first,
                                    absl::Span<float> out) const {
  const CheckpointTensor* tensor = Find(name);
  if (tensor != nullptr && !IsNumeric(tensor->dtype)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "DTYPE_MISMATCH",
        absl::StrCat(tensor->file, ": tensor ", JsonQuote(name), " is ",
                     DTypeName(tensor->dtype), "; want F32, F16 or BF16"),
        {{"tensor", std::string(name)}, {"file", tensor->file}});
  }
  const int64_t width = tensor == nullptr ? 1 : DTypeBits(tensor->dtype) / 8;
  // F32 needs no detour; the others are widened from the end of the span,
  // where they are read to.
  auto bytes = absl::MakeSpan(reinterpret_cast<char*>(out.data()),
                              out.size() * sizeof(float));
  auto raw =
      bytes.subspan(bytes.size() - out.size() * static_cast<size_t>(width));
  CAIRN_RETURN_IF_ERROR(ReadBytes(name, first * width, raw));
  if (width == sizeof(float)) return absl::OkStatus();
  constexpr size_t kTile = 4096;
  char tile[kTile * 2];
  for (size_t i = 0; i < out.size(); i += kTile) {
    const size_t n = std::min(kTile, out.size() - i);
    std::copy_n(raw.data() + 2 * i, 2 * n, tile);
    ToFloats(tensor->dtype, absl::MakeConstSpan(tile, 2 * n),
             out.subspan(i, n));
  }
  return absl::OkStatus();
}

}  // namespace cairn
