#include "core/update/base_model.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json_value.h"

namespace cairn {

v1::TensorManifest TensorsOf(const Checkpoint& checkpoint) {
  v1::TensorManifest manifest;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    v1::Tensor& entry = *manifest.add_tensors();
    entry.set_name(tensor.name);
    entry.set_dtype(std::string(DTypeName(tensor.dtype)));
    for (int64_t d : tensor.shape) entry.add_shape(d);
    entry.set_size_bytes(tensor.size_bytes());
  }
  return manifest;
}

std::string NearestNames(const v1::TensorManifest& tensors,
                         absl::string_view name) {
  std::vector<std::pair<size_t, absl::string_view>> scored;
  for (const v1::Tensor& tensor : tensors.tensors()) {
    const absl::string_view other = tensor.name();
    const size_t most = std::min(name.size(), other.size());
    size_t prefix = 0;
    while (prefix < most && name[prefix] == other[prefix]) ++prefix;
    size_t suffix = 0;
    while (suffix < most - prefix &&
           name[name.size() - 1 - suffix] == other[other.size() - 1 - suffix]) {
      ++suffix;
    }
    scored.emplace_back(prefix + suffix, other);
  }
  const size_t shown = std::min<size_t>(3, scored.size());
  std::partial_sort(
      scored.begin(), scored.begin() + static_cast<ptrdiff_t>(shown),
      scored.end(), [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first > b.first : a.second < b.second;
      });
  scored.resize(shown);
  return absl::StrJoin(scored, ", ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, JsonQuote(entry.second));
  });
}

bool TiesEmbeddings(absl::string_view config_json) {
  const auto config = JsonValue::Parse(config_json, "config.json");
  if (!config.ok() || config->as_object() == nullptr) return false;
  const JsonValue* ties = config->Find("tie_word_embeddings");
  return ties != nullptr && ties->as_bool() != nullptr && *ties->as_bool();
}

}  // namespace cairn
