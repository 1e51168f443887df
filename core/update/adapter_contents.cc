#include "core/update/adapter_contents.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/update.h"

namespace cairn {
namespace {

constexpr char kPrefix[] = "base_model.model.";

using Module = AdapterContents::Module;

struct Suffix {
  const char* text;
  const TensorEntry* Module::*member;
  bool is_embedding;
};

constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", &Module::a, false},
    {".lora_B.weight", &Module::b, false},
    {".lora_B.bias", &Module::bias, false},
    {".lora_embedding_A", &Module::a, true},
    {".lora_embedding_B", &Module::b, true},
    {".lora_magnitude_vector", &Module::magnitude, false},
    {".lora_magnitude_vector.weight", &Module::magnitude, false},
    {".ia3_l", &Module::ia3, false},
    {".shira_weight", &Module::shira, false},
    {".shira_indices", &Module::shira_indices, false},
    {".token_adapter.trainable_tokens_delta", &Module::tokens, false},
};

}  // namespace

absl::Status RefuseTensor(absl::string_view reason, absl::string_view key,
                          absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, reason,
      absl::StrCat(kAdapterWeightsFile, ": tensor ", JsonQuote(key), " ", what),
      {{"file", kAdapterWeightsFile}, {"tensor", std::string(key)}});
}

absl::Status AdapterContents::Add(const TensorEntry& entry) {
  absl::string_view key = entry.name;
  if (!absl::ConsumePrefix(&key, kPrefix)) {
    return RefuseTensor(
        "MALFORMED_FILE", entry.name,
        absl::StrCat("does not begin with ", kPrefix, " as peft writes it"));
  }
  for (const Suffix& suffix : kSuffixes) {
    absl::string_view module = key;
    if (!absl::ConsumeSuffix(&module, suffix.text)) continue;
    Module& found = modules[std::string(module)];
    found.*suffix.member = &entry;
    found.is_embedding |= suffix.is_embedding;
    return absl::OkStatus();
  }
  if (absl::StrContains(key, ".original_module.")) return absl::OkStatus();
  std::string name(key);
  bool is_trained = false;
  for (const char* wrapper : {".modules_to_save.", ".base_layer."}) {
    const size_t at = name.find(wrapper);
    if (at == std::string::npos) continue;
    name.replace(at, absl::string_view(wrapper).size(), ".");
    is_trained = true;
  }
  // The trained copy wins over another one of the same name.
  const TensorEntry*& place = whole[name];
  if (place == nullptr || is_trained) place = &entry;
  return absl::OkStatus();
}

absl::StatusOr<bool> HoldSameBytes(const ByteSource& file, const TensorEntry& a,
                              const TensorEntry& b) {
  constexpr int64_t kTile = 1 << 18;
  if (a.dtype != b.dtype || a.shape != b.shape) return false;
  std::string one, other;
  for (int64_t at = 0; at < a.end - a.begin; at += kTile) {
    one.resize(static_cast<size_t>(std::min(kTile, a.end - a.begin - at)));
    other.resize(one.size());
    CAIRN_RETURN_IF_ERROR(
        file.ReadAt(a.begin + at, absl::MakeSpan(&one[0], one.size())));
    CAIRN_RETURN_IF_ERROR(
        file.ReadAt(b.begin + at, absl::MakeSpan(&other[0], other.size())));
    if (one != other) return false;
  }
  return true;
}

}  // namespace cairn
