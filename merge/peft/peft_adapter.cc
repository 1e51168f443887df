#include "merge/peft/peft_adapter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_norm.h"
#include "core/update/adapter_config.h"
#include "core/update/update.h"
#include "merge/peft/adapter_contents.h"
#include "merge/peft/expert_names.h"
#include "merge/recipe/output_config.h"

namespace cairn {
namespace {

constexpr int64_t kConfigBytesMax = 1 << 20;

using Module = AdapterContents::Module;

class PeftReader {
 public:
  PeftReader(const ModelSource& base, AdapterConfig config,
             SharedSource weights)
      : base_(base), config_(std::move(config)), weights_(std::move(weights)) {}

  absl::StatusOr<AdapterChanges> Read() {
    auto read = SafetensorsHeader::Read(*weights_, kAdapterWeightsFile);
    if (!read.ok()) {
      return absl::DataLossError(read.status().message());
    }
    const SafetensorsHeader& header = *read;
    if (header.tensors().empty()) {
      return RefuseTensor("MALFORMED_FILE", "",
                          "is missing: there are none at all");
    }
    for (const TensorEntry& entry : header.tensors()) {
      CAIRN_RETURN_IF_ERROR(CheckValues(entry));
      CAIRN_RETURN_IF_ERROR(contents_.Add(entry));
    }
    for (const auto& [name, entry] : contents_.whole) {
      CAIRN_RETURN_IF_ERROR(Replace(name, *entry));
    }
    for (const auto& [name, module] : contents_.modules) {
      CAIRN_RETURN_IF_ERROR(AddModule(name, module));
    }
    CAIRN_RETURN_IF_ERROR(Untie());
    return std::move(changes_);
  }

 private:
  absl::Status CheckValues(const TensorEntry& entry) const {
    if (!IsNumeric(entry.dtype)) {
      return RefuseTensor("DTYPE_MISMATCH", entry.name,
                          absl::StrCat("is ", DTypeName(entry.dtype),
                                       "; it must be F32, F16 or BF16"));
    }
    const auto bytes =
        MakeSliceSource(weights_, entry.begin, entry.end - entry.begin);
    CAIRN_ASSIGN_OR_RETURN(const bool is_finite, IsFinite(entry.dtype, *bytes));
    if (is_finite) return absl::OkStatus();
    return RefuseTensor("NON_FINITE", entry.name, "holds a NaN or an infinity");
  }

  // The names that share most with `name` at their two ends.
  std::string NearestNames(const std::string& name) const {
    std::vector<std::pair<size_t, std::string>> scored;
    for (const auto& [other, tensor] : base_.tensors()) {
      const size_t most = std::min(name.size(), other.size());
      size_t prefix = 0, suffix = 0;
      while (prefix < most && name[prefix] == other[prefix]) ++prefix;
      while (suffix < most - prefix && name[name.size() - 1 - suffix] ==
                                           other[other.size() - 1 - suffix]) {
        ++suffix;
      }
      scored.emplace_back(prefix + suffix, other);
    }
    std::sort(scored.rbegin(), scored.rend());
    scored.resize(std::min<size_t>(3, scored.size()));
    return absl::StrJoin(scored, ", ", [](std::string* out, const auto& one) {
      out->append(one.second);
    });
  }

  absl::StatusOr<const SourceTensor*> FindBase(const std::string& name,
                                               const TensorEntry& entry) const {
    const SourceTensor* tensor = base_.Find(name);
    if (tensor != nullptr && IsNumeric(tensor->spec.dtype)) return tensor;
    return RefuseTensor(
        "UNKNOWN_TENSOR", entry.name,
        absl::StrCat(
            "changes ", name, ", which the base ",
            tensor == nullptr ? "does not have" : "does not have as numbers",
            "; nearest are ", NearestNames(name)));
  }

  absl::Status Replace(const std::string& name, const TensorEntry& entry) {
    const bool is_vocabulary = absl::StrContains(name, "embed") ||
                               absl::StrContains(name, "lm_head") ||
                               absl::StrContains(name, "wte");
    const SourceTensor* tensor = base_.Find(name);
    if (tensor == nullptr && name == "lm_head.weight") {
      // A tied model whose head was trained apart.
      changes_.added.push_back(
          {.name = name, .dtype = HeadDType(entry), .shape = entry.shape});
      changes_.config.tie_word_embeddings = false;
    } else {
      CAIRN_ASSIGN_OR_RETURN(tensor, FindBase(name, entry));
      const bool is_resized = is_vocabulary && entry.shape.size() == 2 &&
                              tensor->spec.shape.size() == 2 &&
                              entry.shape[1] == tensor->spec.shape[1] &&
                              entry.shape[0] != tensor->spec.shape[0];
      if (is_resized) {
        changes_.added.push_back(
            {.name = name, .dtype = tensor->spec.dtype, .shape = entry.shape});
        changes_.config.vocab_size = entry.shape[0];
      } else if (entry.shape != tensor->spec.shape) {
        return RefuseTensor(
            "SHAPE_MISMATCH", entry.name,
            absl::StrCat("has the shape ", ShapeText(entry.shape),
                         "; the base has ", name, " as ",
                         ShapeText(tensor->spec.shape)));
      }
    }
    changes_.effects[name] = MakeReplacedEffect(weights_, entry);
    // An embedding's own copy beside its factors replaces nothing.
    const bool is_copy = absl::StrContains(entry.name, ".base_layer.weight");
    if (!is_copy) {
      changes_.not_additive =
          absl::StrCat(name, " saved whole (contents_.modulesto_save or bias)");
    }
    return absl::OkStatus();
  }

  DType HeadDType(const TensorEntry& entry) const {
    for (const char* name : {"model.embed_tokens.weight", "wte.weight"}) {
      const SourceTensor* tensor = base_.Find(name);
      if (tensor != nullptr) return tensor->spec.dtype;
    }
    return entry.dtype;
  }

  absl::Status AddModule(const std::string& name, const Module& module) {
    if (module.ia3 != nullptr) return AddIa3(name, *module.ia3);
    if (module.tokens != nullptr) {
      CAIRN_RETURN_IF_ERROR(AddTokens(name, *module.tokens));
    }
    if (module.a == nullptr && module.b == nullptr &&
        module.magnitude == nullptr && module.bias == nullptr) {
      return absl::OkStatus();
    }
    if (module.a == nullptr || module.b == nullptr) {
      const TensorEntry& there =
          module.a != nullptr ? *module.a
          : module.b != nullptr
              ? *module.b
              : *(module.bias ? module.bias : module.magnitude);
      return RefuseTensor(
          "MALFORMED_FILE", there.name,
          absl::StrCat("stands without the ",
                       module.a == nullptr ? "lora_A" : "lora_B",
                       " of its module"));
    }
    if (config_.is_ia3) {
      return RefuseTensor("UNSUPPORTED", module.a->name,
                          "is a factor of a LoRA in an adapter of type IA3");
    }
    const bool is_expert = !config_.target_parameters.empty() &&
                           base_.Find(name + ".weight") == nullptr &&
                           !module.is_embedding;
    if (is_expert) return AddExperts(name, module);
    return AddLora(name, module);
  }

  // --- LoRA ---

  absl::StatusOr<std::vector<float>> ReadAll(const TensorEntry& entry) const {
    std::vector<float> values(static_cast<size_t>(entry.elements()));
    std::vector<char> bytes(static_cast<size_t>(entry.end - entry.begin));
    CAIRN_RETURN_IF_ERROR(weights_->ReadAt(entry.begin, absl::MakeSpan(bytes)));
    ToFloats(entry.dtype, bytes, absl::MakeSpan(values));
    return values;
  }

  // The elements of all axes but the first, or but the last.
  static int64_t Tail(const std::vector<int64_t>& shape) {
    int64_t product = 1;
    for (size_t i = 1; i < shape.size(); ++i) product *= shape[i];
    return product;
  }

  absl::Status CheckRank(const std::string& name, const Module& module,
                         int64_t rank) const {
    if (!config_.Targets(name)) {
      return RefuseTensor(
          "MALFORMED_FILE", module.a->name,
          absl::StrCat("belongs to a module that target_modules in ",
                       kAdapterConfigFile,
                       " does not name, so peft would not use it"));
    }
    for (const auto& [factor, axis] :
         {std::pair(module.a, size_t{0}), {module.b, size_t{1}}}) {
      if (factor->shape.size() >= 2 && factor->shape[axis] == rank) continue;
      return RefuseTensor(
          "SHAPE_MISMATCH", factor->name,
          absl::StrCat("has the shape ", ShapeText(factor->shape), " but ",
                       kAdapterConfigFile, " gives ", name, " the rank ",
                       rank));
    }
    return absl::OkStatus();
  }

  absl::Status AddLora(const std::string& name, const Module& module) {
    const std::string tensor_name = name + ".weight";
    CAIRN_ASSIGN_OR_RETURN(const SourceTensor* tensor,
                           FindBase(tensor_name, *module.a));
    const int64_t rank = config_.RankOf(name);
    CAIRN_RETURN_IF_ERROR(CheckRank(name, module, rank));
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> a, ReadAll(*module.a));
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> b, ReadAll(*module.b));
    const int64_t in = Tail(module.a->shape);
    const int64_t out = module.b->shape[0];
    const std::vector<int64_t>& shape = tensor->spec.shape;
    const bool is_transposed =
        module.is_embedding || IsConv1d(*tensor, in, out);
    const int64_t rows = is_transposed ? in : out;
    const int64_t columns = is_transposed ? out : in;
    const bool has_tail = Tail(module.b->shape) == rank;
    // A convolution's kernel has its own axes in A.
    const bool fits_axes =
        module.a->shape.size() != shape.size() ||
        std::equal(shape.begin() + 1, shape.end(), module.a->shape.begin() + 1);
    if (shape.empty() || shape[0] != rows || Tail(shape) != columns ||
        !has_tail || (!is_transposed && !fits_axes)) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.a->name,
          absl::StrCat("and its lora_B give ", name, " a change of ",
                       ShapeText({rows, columns}), "; the base has ",
                       ShapeText(shape),
                       shape.size() > 2 ? " (convolutions of several groups "
                                          "cannot be merged)"
                                        : ""));
    }
    LowRankBlock block = {.rows = rows, .rank = rank, .columns = columns};
    if (is_transposed) {
      block.left = Transposed(a, rank, in);
      block.right = Transposed(b, out, rank);
    } else {
      block.left = std::move(b);
      block.right = std::move(a);
    }
    block.scale = static_cast<float>(config_.ScaleOf(name));
    std::vector<LowRankBlock> blocks;
    blocks.push_back(std::move(block));
    Effect change = MakeLowRankEffect(std::move(blocks));
    CAIRN_RETURN_IF_ERROR(AddBias(name, module));
    if (config_.use_dora) {
      CAIRN_ASSIGN_OR_RETURN(change,
                             WithDora(name, module, *tensor, std::move(change),
                                      is_transposed ? 1 : Tail(shape),
                                      is_transposed ? columns : rows));
    } else if (module.magnitude != nullptr) {
      return RefuseTensor("UNSUPPORTED", module.magnitude->name,
                          "belongs to DoRA, but use_dora is not set");
    }
    Chain(tensor_name, std::move(change));
    return absl::OkStatus();
  }

  // Whether the base stores [in, out].
  bool IsConv1d(const SourceTensor& tensor, int64_t in, int64_t out) const {
    return config_.fan_in_fan_out &&
           tensor.spec.shape == std::vector<int64_t>{in, out};
  }

  static std::vector<float> Transposed(const std::vector<float>& matrix,
                                       int64_t rows, int64_t columns) {
    std::vector<float> out(matrix.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        out[static_cast<size_t>(c * rows + r)] =
            matrix[static_cast<size_t>(r * columns + c)];
      }
    }
    return out;
  }

  static void Multiply(std::vector<float>& values, double factor) {
    for (float& value : values) {
      value = static_cast<float>(static_cast<double>(value) * factor);
    }
  }

  // Puts an effect after what the tensor has already.
  void Chain(const std::string& tensor, Effect effect) {
    Effect& place = changes_.effects[tensor];
    const bool is_copy = contents_.whole.contains(tensor) &&
                         changes_.not_additive.empty() && IsSameShape(tensor);
    if (place == nullptr || is_copy) {
      place = std::move(effect);
    } else {
      place = MakeChainedEffect(std::move(place), std::move(effect));
    }
  }

  bool IsSameShape(const std::string& tensor) const {
    const SourceTensor* found = base_.Find(tensor);
    return found != nullptr &&
           found->spec.shape == contents_.whole.at(tensor)->shape;
  }

  absl::Status AddBias(const std::string& name, const Module& module) {
    if (module.bias == nullptr) return absl::OkStatus();
    const std::string bias = name + ".bias";
    CAIRN_ASSIGN_OR_RETURN(const SourceTensor* tensor,
                           FindBase(bias, *module.bias));
    if (tensor->spec.shape != module.bias->shape) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.bias->name,
          absl::StrCat("has the shape ", ShapeText(module.bias->shape),
                       "; the base has ", bias, " as ",
                       ShapeText(tensor->spec.shape)));
    }
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> values, ReadAll(*module.bias));
    Multiply(values, config_.ScaleOf(name));
    Chain(bias, MakeAddedEffect(std::move(values)));
    return absl::OkStatus();
  }

  absl::StatusOr<Effect> WithDora(const std::string& name, const Module& module,
                                  const SourceTensor& tensor, Effect change,
                                  int64_t inner, int64_t vectors) {
    if (module.magnitude == nullptr ||
        module.magnitude->elements() != vectors) {
      return RefuseTensor(
          "SHAPE_MISMATCH",
          module.magnitude == nullptr ? module.a->name : module.magnitude->name,
          absl::StrCat("needs a lora_magnitude_vector of ", vectors,
                       " elements, as use_dora is set for ", name));
    }
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> magnitudes,
                           ReadAll(*module.magnitude));
    changes_.not_additive = absl::StrCat("DoRA (", module.magnitude->name, ")");
    std::vector<char> raw;
    const ReadValues read = [&](int64_t first, absl::Span<float> out) {
      return base_.Read(tensor, first, out, raw);
    };
    return MakeDoraEffect(std::move(change), magnitudes, inner,
                          tensor.spec.elements(), read);
  }

  // --- experts ---

  absl::Status AddExperts(const std::string& key, const Module& module) {
    std::string name = key;
    // Two parameters of one module are wrapped one in the other.
    const bool is_inner = absl::EndsWith(name, ".base_layer");
    if (is_inner) name.resize(name.size() - std::string(".base_layer").size());
    const bool is_one =
        !is_inner && !contents_.modules.contains(key + ".base_layer");
    bool is_gate_up = is_inner;
    if (is_one) {
      for (const std::string& parameter : config_.target_parameters) {
        is_gate_up |= absl::EndsWith(parameter, "gate_up_proj");
      }
    }
    const int64_t rank = config_.RankOf(name);
    const bool is_matrix =
        module.a->shape.size() == 2 && module.b->shape.size() == 2;
    if (!is_matrix || module.a->shape[0] % rank != 0 ||
        module.b->shape[1] != module.a->shape[0]) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.a->name,
          absl::StrCat("and its lora_B hold the factors of experts "
                       "of rank ",
                       rank, "; their shapes do not fit"));
    }
    const int64_t experts = module.a->shape[0] / rank;
    const int64_t in = module.a->shape[1], out = module.b->shape[0];
    const std::vector<ExpertPart> parts = FindExpertParts(
        base_, name,
        is_gate_up ? ExpertParameter::kGateUp : ExpertParameter::kDown, experts,
        in, out);
    if (parts.empty()) {
      return RefuseTensor(
          "UNKNOWN_TENSOR", module.a->name,
          absl::StrCat("changes the experts of ", name,
                       ", which the base does not have in shapes "
                       "that fit; nearest are ",
                       NearestNames(name)));
    }
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> a, ReadAll(*module.a));
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> b, ReadAll(*module.b));
    for (const ExpertPart& part : parts) {
      std::vector<LowRankBlock> blocks;
      for (int64_t e = part.expert; e < part.expert + part.experts; ++e) {
        blocks.push_back(ExpertBlock(part, e, experts, rank, in, a, b));
        blocks.back().scale = static_cast<float>(config_.ScaleOf(name));
      }
      Chain(part.tensor, MakeLowRankEffect(std::move(blocks)));
    }
    return absl::OkStatus();
  }

  // A is [experts, rank, in], B [out, rank, experts].
  static LowRankBlock ExpertBlock(const ExpertPart& part, int64_t expert,
                                  int64_t experts, int64_t rank, int64_t in,
                                  const std::vector<float>& a,
                                  const std::vector<float>& b) {
    std::vector<float> own_a(a.begin() + expert * rank * in,
                             a.begin() + (expert + 1) * rank * in);
    std::vector<float> own_b;
    for (int64_t o = part.first_out; o < part.first_out + part.out; ++o) {
      for (int64_t r = 0; r < rank; ++r) {
        own_b.push_back(
            b[static_cast<size_t>((o * rank + r) * experts + expert)]);
      }
    }
    if (part.is_out_first) {
      return {std::move(own_b), std::move(own_a), part.out, rank, in};
    }
    return {Transposed(own_a, rank, in), Transposed(own_b, part.out, rank), in,
            rank, part.out};
  }

  // --- the rest ---

  absl::Status AddTokens(const std::string& name, const TensorEntry& entry) {
    const std::string tensor_name = name + ".weight";
    CAIRN_ASSIGN_OR_RETURN(const SourceTensor* tensor,
                           FindBase(tensor_name, entry));
    const std::vector<int64_t>* rows = nullptr;
    for (const auto& [module, indices] : config_.token_indices) {
      if (module.empty() || absl::EndsWith(name, module)) rows = &indices;
    }
    const std::vector<int64_t>& shape = tensor->spec.shape;
    if (rows == nullptr || shape.size() != 2 || entry.shape.size() != 2 ||
        entry.shape[0] != static_cast<int64_t>(rows->size()) ||
        entry.shape[1] != shape[1] ||
        std::any_of(rows->begin(), rows->end(),
                    [&](int64_t row) { return row >= shape[0]; })) {
      return RefuseTensor(
          "SHAPE_MISMATCH", entry.name,
          absl::StrCat("has the shape ", ShapeText(entry.shape),
                       ", which does not fit "
                       "trainable_token_indices and the base's ",
                       tensor_name, " ", ShapeText(shape)));
    }
    CAIRN_ASSIGN_OR_RETURN(std::vector<float> values, ReadAll(entry));
    changes_.not_additive = absl::StrCat("trained tokens (", entry.name, ")");
    Chain(tensor_name, MakeRowsEffect(*rows, std::move(values), shape[1]));
    return absl::OkStatus();
  }

  absl::Status AddIa3(const std::string& name, const TensorEntry& entry) {
    if (!config_.is_ia3) {
      return RefuseTensor("UNSUPPORTED", entry.name,
                          "belongs to IA3 in an adapter of type LORA");
    }
    const std::string tensor_name = name + ".weight";
    CAIRN_ASSIGN_OR_RETURN(const SourceTensor* tensor,
                           FindBase(tensor_name, entry));
    const bool is_feedforward = std::any_of(
        config_.feedforward_modules.begin(), config_.feedforward_modules.end(),
        [&](const std::string& module) {
          return name == module || absl::EndsWith(name, "." + module);
        });
    const std::vector<int64_t>& shape = tensor->spec.shape;
    const int64_t count = entry.elements();
    // Outputs are the first axis, inputs the second; the other way round
    // under fan_in_fan_out.
    const bool is_first_axis = is_feedforward == config_.fan_in_fan_out;
    const size_t axis = is_first_axis ? 0 : 1;
    if (shape.size() < 2 || shape[axis] != count) {
      return RefuseTensor(
          "SHAPE_MISMATCH", entry.name,
          absl::StrCat("has ", count, " factors for axis ", axis, " of ",
                       tensor_name, ", which is ", ShapeText(shape)));
    }
    int64_t inner = 1;
    for (size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    CAIRN_ASSIGN_OR_RETURN(const std::vector<float> factors, ReadAll(entry));
    changes_.not_additive = absl::StrCat("IA3 (", entry.name, ")");
    Chain(tensor_name, MakeScaledEffect(factors, inner));
    const SourceTensor* bias = base_.Find(name + ".bias");
    if (!is_feedforward && bias != nullptr && bias->spec.elements() == count) {
      Chain(name + ".bias", MakeScaledEffect(factors, 1));
    }
    return absl::OkStatus();
  }

  // A tied model whose embeddings were trained whole gets a head of its own,
  // the embeddings as they were.
  absl::Status Untie() {
    if (!TiesEmbeddings(base_.config_json()) ||
        base_.Find("lm_head.weight") != nullptr ||
        contents_.whole.contains("lm_head.weight")) {
      return absl::OkStatus();
    }
    for (const char* name :
         {"model.embed_tokens.weight", "transformer.wte.weight"}) {
      const auto found = contents_.whole.find(name);
      if (found == contents_.whole.end() ||
          absl::StrContains(found->second->name, ".base_layer.")) {
        continue;
      }
      const CheckpointTensor& stored = *base_.Find(name)->stored;
      changes_.added.push_back({.name = "lm_head.weight",
                                .dtype = stored.dtype,
                                .shape = stored.shape});
      changes_.effects["lm_head.weight"] = MakeReplacedEffect(
          base_.checkpoint()->files().at(stored.file), stored);
      changes_.config.tie_word_embeddings = false;
    }
    return absl::OkStatus();
  }

  const ModelSource& base_;
  const AdapterConfig config_;
  const SharedSource weights_;
  AdapterContents contents_;
  AdapterChanges changes_;
};

}  // namespace

absl::StatusOr<AdapterChanges> OpenPeftAdapter(const ModelSource& base,
                                               const ByteSource& config_file,
                                               SharedSource weights) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text,
                         ReadAll(config_file, kConfigBytesMax));
  CAIRN_ASSIGN_OR_RETURN(
      AdapterConfig config,
      AdapterConfig::Parse(text, kAdapterConfigFile, AdapterKinds::kAll));
  return PeftReader(base, std::move(config), std::move(weights)).Read();
}

}  // namespace cairn
