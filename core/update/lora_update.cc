#include "core/update/lora_update.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_norm.h"
#include "core/update/adapter_config.h"
#include "core/update/low_rank_norm.h"

namespace cairn {
namespace {

constexpr char kPrefix[] = "base_model.model.";
constexpr char kSuffixA[] = ".lora_A.weight";
constexpr char kSuffixB[] = ".lora_B.weight";
constexpr int64_t kConfigBytesMax = 1 << 20;
// Bounds the time that patterns from an upload can take.
constexpr size_t kMatchesMax = 2'000'000;

absl::Status Refuse(absl::string_view reason, absl::string_view key,
                    absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, reason,
      absl::StrCat(kAdapterWeightsFile, ": tensor ", JsonQuote(key), " ", what),
      {{"file", kAdapterWeightsFile}, {"tensor", std::string(key)}});
}

// The two factors of one module, as the file has them.
struct Pair {
  const TensorEntry* a = nullptr;
  const TensorEntry* b = nullptr;
};

// What peft stores under keys that are no factors of a linear layer.
absl::Status RefuseKey(const std::string& key) {
  static constexpr std::pair<const char*, const char*> kKinds[] = {
      {"lora_magnitude_vector", "belongs to DoRA"},
      {"lora_embedding_", "belongs to a LoRA on an embedding"},
      {"lora_B.bias", "is a LoRA bias"},
      {"modules_to_save", "is a module saved whole"},
      {"ia3_l", "belongs to IA3"},
      {"shira_", "belongs to SHiRA"},
      {"trainable_tokens", "belongs to trainable tokens"},
  };
  for (const auto& [part, meaning] : kKinds) {
    if (absl::StrContains(key, part)) {
      return Refuse("UNSUPPORTED", key,
                    absl::StrCat(meaning,
                                 ", which cannot be merged; only lora_A.weight "
                                 "and lora_B.weight of linear layers can"));
    }
  }
  if (!absl::StartsWith(key, kPrefix)) {
    return Refuse(
        "MALFORMED_FILE", key,
        absl::StrCat("does not begin with ", kPrefix, " as peft writes it"));
  }
  return Refuse("UNSUPPORTED", key,
                "is neither lora_A.weight nor lora_B.weight of a module: "
                "whole tensors and biases beside a LoRA cannot be merged");
}

absl::StatusOr<std::map<std::string, Pair>> PairUp(
    const SafetensorsHeader& header) {
  std::map<std::string, Pair> pairs;
  for (const TensorEntry& entry : header.tensors()) {
    absl::string_view module = entry.name;
    const bool is_prefixed = absl::ConsumePrefix(&module, kPrefix);
    if (is_prefixed && absl::ConsumeSuffix(&module, kSuffixA)) {
      pairs[std::string(module)].a = &entry;
    } else if (is_prefixed && absl::ConsumeSuffix(&module, kSuffixB)) {
      pairs[std::string(module)].b = &entry;
    } else {
      return RefuseKey(entry.name);
    }
  }
  for (const auto& [module, pair] : pairs) {
    if (pair.a != nullptr && pair.b != nullptr) continue;
    const TensorEntry& there = pair.a != nullptr ? *pair.a : *pair.b;
    return Refuse("MALFORMED_FILE", there.name,
                  absl::StrCat("has no partner ", kPrefix, module,
                               pair.a == nullptr ? kSuffixA : kSuffixB));
  }
  return pairs;
}

absl::Status CheckFactor(const TensorEntry& factor) {
  if (!IsNumeric(factor.dtype)) {
    return Refuse("DTYPE_MISMATCH", factor.name,
                  absl::StrCat("is ", DTypeName(factor.dtype),
                               "; a factor is F32, F16 or BF16"));
  }
  if (factor.shape.size() == 4) {
    return Refuse("UNSUPPORTED", factor.name,
                  "is a factor of a convolution; only linear layers can be "
                  "merged");
  }
  const bool is_matrix =
      factor.shape.size() == 2 && factor.shape[0] > 0 && factor.shape[1] > 0;
  if (!is_matrix) {
    return Refuse("SHAPE_MISMATCH", factor.name,
                  absl::StrCat("has the shape ", ShapeText(factor.shape),
                               "; a factor is a matrix"));
  }
  return absl::OkStatus();
}

// `dimension_max`: the largest in or out of any module of the adapter, since
// trainers give one rank to modules of every size.
absl::Status CheckPair(const std::string& module, const Pair& pair,
                       int64_t rank, int64_t dimension_max) {
  CAIRN_RETURN_IF_ERROR(CheckFactor(*pair.a));
  CAIRN_RETURN_IF_ERROR(CheckFactor(*pair.b));
  for (const auto& [factor, found] :
       {std::pair(pair.a, pair.a->shape[0]), {pair.b, pair.b->shape[1]}}) {
    if (found != rank) {
      return Refuse("SHAPE_MISMATCH", factor->name,
                    absl::StrCat("has the shape ", ShapeText(factor->shape),
                                 " but ", kAdapterConfigFile, " gives ", module,
                                 " the rank ", rank));
    }
  }
  const int64_t rank_max = 2 * dimension_max;
  if (rank > rank_max) {
    return WithDetails(
        Refuse("LIMIT_EXCEEDED", pair.a->name,
               absl::StrCat("has the rank ", rank,
                            "; at most twice the largest dimension of the "
                            "adapter's modules, ",
                            rank_max, ", is allowed")),
        {{"measured", absl::StrCat(rank)}, {"limit", absl::StrCat(rank_max)}});
  }
  return absl::OkStatus();
}

// The largest in or out of any module, whose factors may not be checked yet.
template <typename Pairs>
int64_t LargestDimension(const Pairs& pairs) {
  int64_t largest = 0;
  for (const auto& [module, pair] : pairs) {
    if (pair.a->shape.size() == 2 && pair.b->shape.size() == 2) {
      largest = std::max({largest, pair.a->shape[1], pair.b->shape[0]});
    }
  }
  return largest;
}

// Factors of one touched tensor: where they lie and how they multiply.
struct Placed {
  TensorEntry a;
  TensorEntry b;
  double scale = 1.0;
};

class LoraUpdate : public Update {
 public:
  LoraUpdate(SharedSource weights, std::vector<TouchedTensor> touched,
             std::vector<Placed> factors, bool transposed)
      : weights_(std::move(weights)),
        touched_(std::move(touched)),
        factors_(std::move(factors)),
        transposed_(transposed) {}

  v1::Encoding::Kind encoding() const override { return v1::Encoding::LORA; }
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return ""; }

  absl::Status CheckFinite() const override {
    for (const Placed& placed : factors_) {
      for (const TensorEntry* factor : {&placed.a, &placed.b}) {
        auto bytes = MakeSliceSource(weights_, factor->begin,
                                     factor->end - factor->begin);
        CAIRN_ASSIGN_OR_RETURN(bool finite, IsFinite(factor->dtype, *bytes));
        if (!finite) {
          return Refuse("NON_FINITE", factor->name,
                        "holds a NaN or an infinity");
        }
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> DeltaNorm(absl::string_view tensor,
                                   const ByteSource&) const override {
    const Placed* placed = FindFactors(tensor);
    if (placed == nullptr) return NotTouched(tensor);
    auto reader = [this](const TensorEntry& entry) {
      return [this, &entry](int64_t first, absl::Span<float> out) {
        return ReadElements(entry, first, out);
      };
    };
    return LowRankNorm({.rank = placed->a.shape[0],
                        .in = placed->a.shape[1],
                        .out = placed->b.shape[0],
                        .scale = placed->scale,
                        .read_a = reader(placed->a),
                        .read_b = reader(placed->b)});
  }

  absl::StatusOr<LoraFactors> ReadFactors(
      absl::string_view tensor) const override {
    const Placed* placed = FindFactors(tensor);
    if (placed == nullptr) return NotTouched(tensor);
    LoraFactors out;
    out.rank = placed->a.shape[0];
    out.in = placed->a.shape[1];
    out.out = placed->b.shape[0];
    out.scale = placed->scale;
    out.transposed = transposed_;
    CAIRN_RETURN_IF_ERROR(ReadMatrix(placed->a, out.a));
    CAIRN_RETURN_IF_ERROR(ReadMatrix(placed->b, out.b));
    return out;
  }

  int64_t FactorBytes(absl::string_view tensor) const override {
    const Placed* placed = FindFactors(tensor);
    if (placed == nullptr) return 0;
    return (placed->a.elements() + placed->b.elements()) *
           static_cast<int64_t>(sizeof(float));
  }

 private:
  static absl::Status NotTouched(absl::string_view tensor) {
    return absl::NotFoundError(
        absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
  }

  const Placed* FindFactors(absl::string_view tensor) const {
    const TouchedTensor* found = Find(tensor);
    return found == nullptr
               ? nullptr
               : &factors_[static_cast<size_t>(found - touched_.data())];
  }

  absl::Status ReadMatrix(const TensorEntry& entry,
                          std::vector<float>& out) const {
    out.resize(static_cast<size_t>(entry.elements()));
    return ReadElements(entry, 0, absl::MakeSpan(out));
  }

  // Elements of a factor from `first` on, as numbers.
  absl::Status ReadElements(const TensorEntry& entry, int64_t first,
                            absl::Span<float> out) const {
    constexpr size_t kTile = 1 << 16;
    const auto width = static_cast<size_t>(DTypeBits(entry.dtype) / 8);
    std::vector<char> raw(std::min(kTile, out.size()) * width);
    for (size_t i = 0; i < out.size(); i += kTile) {
      const size_t n = std::min(kTile, out.size() - i);
      auto bytes = absl::MakeSpan(raw).subspan(0, n * width);
      const auto skipped = (static_cast<size_t>(first) + i) * width;
      CAIRN_RETURN_IF_ERROR(
          weights_->ReadAt(entry.begin + static_cast<int64_t>(skipped), bytes));
      ToFloats(entry.dtype, bytes, out.subspan(i, n));
    }
    return absl::OkStatus();
  }

  const SharedSource weights_;
  const std::vector<TouchedTensor> touched_;
  const std::vector<Placed> factors_;  // in the order of touched_
  const bool transposed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenLoraUpdate(
    const ByteSource& config_file, SharedSource weights) {
  auto text = ReadAll(config_file, kConfigBytesMax);
  if (!text.ok()) return Annotate(text.status(), kAdapterConfigFile);
  CAIRN_ASSIGN_OR_RETURN(AdapterConfig config,
                         AdapterConfig::Parse(*text, kAdapterConfigFile));
  CAIRN_ASSIGN_OR_RETURN(
      SafetensorsHeader header,
      SafetensorsHeader::Read(*weights, kAdapterWeightsFile));
  CAIRN_ASSIGN_OR_RETURN(auto pairs, PairUp(header));
  if (pairs.empty()) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         absl::StrCat(kAdapterWeightsFile, ": has no tensors"),
                         {{"file", kAdapterWeightsFile}});
  }
  const size_t patterns =
      config.rank_pattern.size() + config.alpha_pattern.size();
  if (pairs.size() * patterns > kMatchesMax) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat(kAdapterConfigFile, ": ", patterns, " patterns for ",
                     pairs.size(), " modules; their product may be at most ",
                     kMatchesMax),
        {{"file", kAdapterConfigFile}});
  }
  const int64_t dimension_max = LargestDimension(pairs);
  std::vector<std::pair<TouchedTensor, Placed>> found;
  for (const auto& [module, pair] : pairs) {
    if (!config.Targets(module)) {
      return Refuse("MALFORMED_FILE", pair.a->name,
                    absl::StrCat("belongs to a module that target_modules in ",
                                 kAdapterConfigFile,
                                 " does not name, so peft would not use it"));
    }
    CAIRN_RETURN_IF_ERROR(
        CheckPair(module, pair, config.RankOf(module), dimension_max));
    TouchedTensor tensor{.name = module + ".weight",
                         .shape = {pair.b->shape[0], pair.a->shape[1]},
                         .dtype = std::nullopt};
    if (config.fan_in_fan_out) std::swap(tensor.shape[0], tensor.shape[1]);
    found.emplace_back(std::move(tensor),
                       Placed{*pair.a, *pair.b, config.ScaleOf(module)});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first.name < b.first.name;
  });
  std::vector<TouchedTensor> touched;
  std::vector<Placed> factors;
  for (auto& [tensor, placed] : found) {
    touched.push_back(std::move(tensor));
    factors.push_back(std::move(placed));
  }
  return std::make_unique<LoraUpdate>(std::move(weights), std::move(touched),
                                      std::move(factors),
                                      config.fan_in_fan_out);
}

}  // namespace cairn
