#include "core/update/adapter_reader.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/adapter_base.h"
#include "core/update/adapter_contents.h"
#include "core/update/update.h"

namespace cairn {
namespace {

using Module = AdapterContents::Module;
using Shape = std::vector<int64_t>;

// Bounds the time that patterns from an upload can take.
constexpr size_t kMatchesMax = 2'000'000;
// What is screened by its whole product: DoRA, and experts in one tensor.
constexpr int64_t kProductRankMax = 512;

// The elements of all axes but the first.
int64_t Tail(const Shape& shape) {
  int64_t product = 1;
  for (size_t i = 1; i < shape.size(); ++i) product *= shape[i];
  return product;
}

bool IsVocabulary(absl::string_view name) {
  return absl::StrContains(name, "embed") || absl::StrContains(name, "wte") ||
         absl::StrContains(name, "lm_head");
}

class AdapterReader {
 public:
  AdapterReader(const AdapterFile& file, const BaseModel* base,
                Vocabulary vocabulary)
      : file_(file),
        config_(*file.config),
        base_(base),
        vocabulary_(vocabulary) {}

  absl::StatusOr<AdapterPlan> Read() {
    for (const TensorEntry& entry : file_.header->tensors()) {
      CAIRN_RETURN_IF_ERROR(contents_.Add(entry));
    }
    CAIRN_RETURN_IF_ERROR(CheckDTypes());
    CAIRN_RETURN_IF_ERROR(CheckPatterns());
    CAIRN_RETURN_IF_ERROR(DropTiedHead());
    for (const auto& [name, entry] : contents_.whole) {
      CAIRN_RETURN_IF_ERROR(Replace(base_.NameOf(name), *entry));
    }
    for (const auto& [name, module] : contents_.modules) {
      CAIRN_RETURN_IF_ERROR(AddModule(name, module));
    }
    CAIRN_RETURN_IF_ERROR(Untie());
    if (plan_.tensors.empty()) {
      return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                           absl::StrCat(kAdapterWeightsFile,
                                        ": has no tensors that change a model"),
                           {{"file", kAdapterWeightsFile}});
    }
    return std::move(plan_);
  }

 private:
  // --- checks of the file as a whole ---

  absl::Status CheckDTypes() const {
    for (const TensorEntry& entry : file_.header->tensors()) {
      const bool is_index = absl::EndsWith(entry.name, ".shira_indices") &&
                            entry.dtype == DType::kI32;
      if (IsNumeric(entry.dtype) || is_index) continue;
      return RefuseTensor("DTYPE_MISMATCH", entry.name,
                          absl::StrCat("is ", DTypeName(entry.dtype),
                                       "; it must be F32, F16 or BF16"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckPatterns() {
    const size_t patterns =
        config_.rank_pattern.size() + config_.alpha_pattern.size() +
        config_.feedforward_modules.size() + config_.token_indices.size() +
        config_.target_parameters.size();
    if (contents_.modules.size() * patterns > kMatchesMax) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
          absl::StrCat(kAdapterConfigFile, ": ", patterns,
                       " patterns and names for ", contents_.modules.size(),
                       " modules; their product may be at most ", kMatchesMax),
          {{"file", kAdapterConfigFile}});
    }
    for (const auto& [name, module] : contents_.modules) {
      if (module.a == nullptr || module.b == nullptr) continue;
      if (module.a->shape.size() < 2 || module.b->shape.empty()) continue;
      largest_dimension_ = std::max(
          {largest_dimension_, Tail(module.a->shape), module.b->shape[0]});
    }
    return absl::OkStatus();
  }

  void AddStep(const std::string& name, const Shape& shape, AdapterStep step) {
    AdaptedTensor& tensor = plan_.tensors[name];
    // The base's own values, stored beside factors, are nothing to do.
    if (copies_.erase(name) > 0) tensor.steps.clear();
    tensor.shape = shape;
    tensor.steps.push_back(std::move(step));
  }

  void AddTensor(TensorSpec spec) {
    base_.Override(spec);
    plan_.added.push_back(std::move(spec));
  }

  // --- whole tensors ---

  // A head that is stored beside the embeddings that the base ties it to, and
  // equal to them, is the same change.
  absl::Status DropTiedHead() {
    const auto head = contents_.whole.find("lm_head.weight");
    if (vocabulary_ != Vocabulary::kOfTheBase || base_.is_unknown() ||
        head == contents_.whole.end() || base_.Has("lm_head.weight")) {
      return absl::OkStatus();
    }
    for (const char* name : kEmbeddings) {
      const auto embeddings = contents_.whole.find(name);
      if (embeddings == contents_.whole.end()) continue;
      CAIRN_ASSIGN_OR_RETURN(
          const bool are_equal,
          HoldSameBytes(*file_.weights, *head->second, *embeddings->second));
      if (!are_equal) continue;
      contents_.whole.erase(head);
      is_tied_copy_ = true;
      return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  absl::Status Replace(const std::string& name, const TensorEntry& entry) {
    if (!base_.is_unknown() && name == "lm_head.weight" && !base_.Has(name)) {
      return AddHead(name, entry);
    }
    CAIRN_ASSIGN_OR_RETURN(const Shape shape,
                           base_.ShapeOf(name, entry, entry.shape));
    const bool is_copy = absl::StrContains(entry.name, ".base_layer.weight");
    if (entry.shape != shape) {
      CAIRN_RETURN_IF_ERROR(Resize(name, entry, shape));
    } else if (is_copy) {
      copies_.insert(name);
    }
    const bool stays = vocabulary_ == Vocabulary::kOfTheBase;
    AdaptedTensor& tensor = plan_.tensors[name];
    tensor.shape = stays ? shape : entry.shape;
    tensor.steps.push_back(ReplaceStep{entry});
    if (!is_copy) {
      plan_.not_additive =
          absl::StrCat(name, " saved whole (modules_to_save or bias)");
    }
    return absl::OkStatus();
  }

  // A tied model whose head was trained apart.
  absl::Status AddHead(const std::string& name, const TensorEntry& entry) {
    if (vocabulary_ == Vocabulary::kOfTheBase) {
      return RefuseTensor("UNSUPPORTED", entry.name,
                          "is a head of its own, where the base has none or "
                          "ties it to its embeddings; a release stays as it "
                          "is: merge the adapter into a model of its own with "
                          "cairn merge");
    }
    DType dtype = entry.dtype;
    for (const char* tied : kEmbeddings) dtype = base_.DTypeOf(tied, dtype);
    AddTensor({.name = name, .dtype = dtype, .shape = entry.shape});
    plan_.config.tie_word_embeddings = false;
    plan_.tensors[name] = {.shape = entry.shape, .steps = {ReplaceStep{entry}}};
    plan_.not_additive =
        absl::StrCat(name, " saved whole (modules_to_save or bias)");
    return absl::OkStatus();
  }

  // A tensor of another shape than the base's: only a vocabulary may be.
  absl::Status Resize(const std::string& name, const TensorEntry& entry,
                      const Shape& shape) {
    const bool is_resized = IsVocabulary(name) && entry.shape.size() == 2 &&
                            shape.size() == 2 && entry.shape[1] == shape[1];
    if (!is_resized) {
      return RefuseTensor(
          "SHAPE_MISMATCH", entry.name,
          absl::StrCat("has the shape ", ShapeText(entry.shape),
                       "; the base has ", name, " as ", ShapeText(shape)));
    }
    if (vocabulary_ == Vocabulary::kOfTheAdapter) {
      AddTensor({.name = name,
                 .dtype = base_.DTypeOf(name, entry.dtype),
                 .shape = entry.shape});
      plan_.config.vocab_size = entry.shape[0];
    } else if (entry.shape[0] > shape[0]) {
      return RefuseTensor(
          "UNSUPPORTED", entry.name,
          absl::StrCat("has ", entry.shape[0], " rows where the base has ",
                       shape[0],
                       ": a release keeps its vocabulary; merge it into a "
                       "model of its own with cairn merge"));
    }
    return absl::OkStatus();
  }

  // A tied model whose embeddings were trained whole gets a head of its own,
  // the embeddings as they were.
  absl::Status Untie() {
    if (base_.is_unknown() || is_tied_copy_ ||
        !TiesEmbeddings(base_.config_json()) || base_.Has("lm_head.weight") ||
        contents_.whole.contains("lm_head.weight")) {
      return absl::OkStatus();
    }
    for (const char* name : kEmbeddings) {
      const auto found = contents_.whole.find(name);
      if (found == contents_.whole.end() ||
          absl::StrContains(found->second->name, ".base_layer.")) {
        continue;
      }
      if (vocabulary_ == Vocabulary::kOfTheBase) {
        return RefuseTensor(
            "UNSUPPORTED", found->second->name,
            "was trained apart from the head that the base ties to it; a "
            "release stays tied: merge the adapter into a model of its own "
            "with cairn merge");
      }
      const v1::Tensor* stored = FindTensor(base_.tensors(), name);
      AddTensor(
          {.name = "lm_head.weight",
           .dtype = base_.DTypeOf(name, found->second->dtype),
           .shape = Shape(stored->shape().begin(), stored->shape().end())});
      plan_.untied_head = {"lm_head.weight", name};
      plan_.config.tie_word_embeddings = false;
    }
    return absl::OkStatus();
  }

  // --- modules ---

  absl::Status AddModule(const std::string& name, const Module& module) {
    if (module.ia3 != nullptr) return AddIa3(name, *module.ia3);
    if (module.shira != nullptr || module.shira_indices != nullptr) {
      return AddShira(name, module);
    }
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
          absl::StrCat("has no partner ",
                       module.a == nullptr ? "lora_A" : "lora_B",
                       ".weight of its module"));
    }
    if (config_.kind != AdapterKind::kLora) {
      return RefuseTensor("UNSUPPORTED", module.a->name,
                          "is a factor of a LoRA in an adapter that is none");
    }
    CAIRN_RETURN_IF_ERROR(CheckFactor(*module.a));
    CAIRN_RETURN_IF_ERROR(CheckFactor(*module.b));
    const bool is_expert = !config_.target_parameters.empty() &&
                           !base_.Has(base_.NameOf(name + ".weight")) &&
                           !module.is_embedding;
    return is_expert ? AddExperts(name, module) : AddLora(name, module);
  }

  absl::Status CheckFactor(const TensorEntry& factor) const {
    const Shape& shape = factor.shape;
    const bool is_factor =
        shape.size() >= 2 && std::all_of(shape.begin(), shape.end(),
                                         [](int64_t d) { return d > 0; });
    if (is_factor) return absl::OkStatus();
    return RefuseTensor("SHAPE_MISMATCH", factor.name,
                        absl::StrCat("has the shape ", ShapeText(shape),
                                     "; a factor is a matrix"));
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
      if (factor->shape[axis] == rank) continue;
      return RefuseTensor(
          "SHAPE_MISMATCH", factor->name,
          absl::StrCat("has the shape ", ShapeText(factor->shape), " but ",
                       kAdapterConfigFile, " gives ", name, " the rank ",
                       rank));
    }
    // Trainers give one rank to modules of every size.
    const int64_t rank_max =
        config_.use_dora ? std::min(kProductRankMax, 2 * largest_dimension_)
                         : 2 * largest_dimension_;
    if (rank <= rank_max) return absl::OkStatus();
    return WithDetails(
        RefuseTensor(
            "LIMIT_EXCEEDED", module.a->name,
            absl::StrCat("has the rank ", rank,
                         "; at most twice the largest dimension of "
                         "the adapter's modules, and ",
                         kProductRankMax, " for DoRA, is allowed: ", rank_max)),
        {{"measured", absl::StrCat(rank)}, {"limit", absl::StrCat(rank_max)}});
  }

  absl::Status AddLora(const std::string& name, const Module& module) {
    const std::string tensor = base_.NameOf(name + ".weight");
    const int64_t rank = config_.RankOf(name);
    CAIRN_RETURN_IF_ERROR(CheckRank(name, module, rank));
    const int64_t in = Tail(module.a->shape);
    const int64_t out = module.b->shape[0];
    Shape implied = module.a->shape;
    implied[0] = out;
    const bool may_be_conv1d =
        config_.fan_in_fan_out && module.a->shape.size() == 2;
    if (module.is_embedding || may_be_conv1d) implied = {in, out};
    CAIRN_ASSIGN_OR_RETURN(const Shape shape,
                           base_.ShapeOf(tensor, *module.a, implied));
    const bool is_transposed =
        module.is_embedding || (may_be_conv1d && shape == Shape{in, out});
    const int64_t rows = is_transposed ? in : out;
    const int64_t columns = is_transposed ? out : in;
    // A convolution's kernel has its own axes in A.
    const bool fits_axes =
        module.a->shape.size() != shape.size() ||
        std::equal(shape.begin() + 1, shape.end(), module.a->shape.begin() + 1);
    if (shape.empty() || shape[0] != rows || Tail(shape) != columns ||
        Tail(module.b->shape) != rank || (!is_transposed && !fits_axes)) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.a->name,
          absl::StrCat("and its lora_B give ", name, " a change of ",
                       ShapeText({rows, columns}), "; the base has ",
                       ShapeText(shape),
                       shape.size() > 2 ? " (convolutions of several groups "
                                          "cannot be merged)"
                                        : ""));
    }
    LowRankStep step = {.a = *module.a,
                        .b = *module.b,
                        .rank = rank,
                        .in = in,
                        .out = out,
                        .scale = config_.ScaleOf(name),
                        .is_transposed = is_transposed};
    CAIRN_RETURN_IF_ERROR(AddBias(name, module));
    if (config_.use_dora) {
      step.inner = is_transposed ? 1 : Tail(shape);
      CAIRN_RETURN_IF_ERROR(
          AddMagnitude(name, module, is_transposed ? columns : rows, step));
    } else if (module.magnitude != nullptr) {
      return RefuseTensor("UNSUPPORTED", module.magnitude->name,
                          "belongs to DoRA, but use_dora is not set");
    }
    AddStep(tensor, shape, std::move(step));
    return absl::OkStatus();
  }

  absl::Status AddMagnitude(const std::string& name, const Module& module,
                            int64_t vectors, LowRankStep& step) {
    if (module.magnitude == nullptr ||
        module.magnitude->elements() != vectors) {
      return RefuseTensor(
          "SHAPE_MISMATCH",
          module.magnitude == nullptr ? module.a->name : module.magnitude->name,
          absl::StrCat("needs a lora_magnitude_vector of ", vectors,
                       " elements, as use_dora is set for ", name));
    }
    step.magnitude = *module.magnitude;
    plan_.not_additive = absl::StrCat("DoRA (", module.magnitude->name, ")");
    return absl::OkStatus();
  }

  absl::Status AddBias(const std::string& name, const Module& module) {
    if (module.bias == nullptr) return absl::OkStatus();
    if (!config_.lora_bias) {
      return RefuseTensor("UNSUPPORTED", module.bias->name,
                          "is a LoRA bias, but lora_bias is not set");
    }
    const std::string bias = base_.NameOf(name + ".bias");
    CAIRN_ASSIGN_OR_RETURN(
        const Shape shape,
        base_.ShapeOf(bias, *module.bias, module.bias->shape));
    if (shape != module.bias->shape) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.bias->name,
          absl::StrCat("has the shape ", ShapeText(module.bias->shape),
                       "; the base has ", bias, " as ", ShapeText(shape)));
    }
    AddStep(
        bias, shape,
        cairn::AddStep{.added = *module.bias, .scale = config_.ScaleOf(name)});
    return absl::OkStatus();
  }

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
      return RefuseTensor("SHAPE_MISMATCH", module.a->name,
                          absl::StrCat("and its lora_B hold the factors of "
                                       "experts of rank ",
                                       rank, "; their shapes do not fit"));
    }
    if (rank > kProductRankMax) {
      return RefuseTensor(
          "LIMIT_EXCEEDED", module.a->name,
          absl::StrCat("has the rank ", rank, "; at most ", kProductRankMax,
                       " is allowed for experts"));
    }
    if (base_.is_unknown()) return base_.NeedsBase(*module.a);
    ExpertsStep step = {.a = *module.a,
                        .b = *module.b,
                        .part = {},
                        .experts = module.a->shape[0] / rank,
                        .rank = rank,
                        .in = module.a->shape[1],
                        .scale = config_.ScaleOf(name)};
    const std::vector<ExpertPart> parts = FindExpertParts(
        base_.tensors(), name,
        is_gate_up ? ExpertParameter::kGateUp : ExpertParameter::kDown,
        step.experts, step.in, module.b->shape[0]);
    if (parts.empty()) {
      return RefuseTensor(
          "UNKNOWN_TENSOR", module.a->name,
          absl::StrCat("changes the experts of ", name,
                       ", which the base does not have in shapes that fit; "
                       "nearest are ",
                       NearestNames(base_.tensors(), name)));
    }
    for (const ExpertPart& part : parts) {
      step.part = part;
      CAIRN_ASSIGN_OR_RETURN(
          const Shape shape,
          base_.ShapeOf(part.tensor, *module.a, std::nullopt));
      AddStep(part.tensor, shape, step);
    }
    return absl::OkStatus();
  }

  absl::Status AddTokens(const std::string& name, const TensorEntry& entry) {
    const std::string tensor = base_.NameOf(name + ".weight");
    CAIRN_ASSIGN_OR_RETURN(const Shape shape,
                           base_.ShapeOf(tensor, entry, std::nullopt));
    const std::vector<int64_t>* rows = nullptr;
    for (const auto& [module, indices] : config_.token_indices) {
      if (module.empty() || absl::EndsWith(name, module)) rows = &indices;
    }
    if (rows == nullptr || shape.size() != 2 || entry.shape.size() != 2 ||
        entry.shape[0] != static_cast<int64_t>(rows->size()) ||
        entry.shape[1] != shape[1] ||
        std::any_of(rows->begin(), rows->end(),
                    [&](int64_t row) { return row >= shape[0]; })) {
      return RefuseTensor("SHAPE_MISMATCH", entry.name,
                          absl::StrCat("has the shape ", ShapeText(entry.shape),
                                       ", which does not fit "
                                       "trainable_token_indices and the "
                                       "base's ",
                                       tensor, " ", ShapeText(shape)));
    }
    plan_.not_additive = absl::StrCat("trained tokens (", entry.name, ")");
    AddStep(tensor, shape,
            RowsStep{.rows = *rows, .values = entry, .columns = shape[1]});
    return absl::OkStatus();
  }

  absl::Status AddIa3(const std::string& name, const TensorEntry& entry) {
    if (config_.kind != AdapterKind::kIa3) {
      return RefuseTensor("UNSUPPORTED", entry.name,
                          "belongs to IA3 in an adapter that is none");
    }
    const std::string tensor = base_.NameOf(name + ".weight");
    CAIRN_ASSIGN_OR_RETURN(const Shape shape,
                           base_.ShapeOf(tensor, entry, std::nullopt));
    const bool is_feedforward = std::any_of(
        config_.feedforward_modules.begin(), config_.feedforward_modules.end(),
        [&](const std::string& module) {
          return name == module || absl::EndsWith(name, "." + module);
        });
    const int64_t count = entry.elements();
    // Outputs are the first axis, inputs the second; the other way round
    // under fan_in_fan_out.
    const size_t axis = is_feedforward == config_.fan_in_fan_out ? 0 : 1;
    if (shape.size() < 2 || shape[axis] != count) {
      return RefuseTensor(
          "SHAPE_MISMATCH", entry.name,
          absl::StrCat("has ", count, " factors for axis ", axis, " of ",
                       tensor, ", which is ", ShapeText(shape)));
    }
    int64_t inner = 1;
    for (size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    plan_.not_additive = absl::StrCat("IA3 (", entry.name, ")");
    AddStep(tensor, shape, ScaleStep{.factors = entry, .inner = inner});
    const std::string bias = base_.NameOf(name + ".bias");
    if (is_feedforward || !base_.Has(bias)) return absl::OkStatus();
    CAIRN_ASSIGN_OR_RETURN(const Shape bias_shape,
                           base_.ShapeOf(bias, entry, std::nullopt));
    if (bias_shape == Shape{count}) {
      AddStep(bias, bias_shape, ScaleStep{.factors = entry, .inner = 1});
    }
    return absl::OkStatus();
  }

  absl::Status AddShira(const std::string& name, const Module& module) {
    if (module.shira == nullptr || module.shira_indices == nullptr) {
      const TensorEntry& there =
          module.shira != nullptr ? *module.shira : *module.shira_indices;
      return RefuseTensor("MALFORMED_FILE", there.name,
                          "has no partner: values come with shira_indices");
    }
    if (config_.kind != AdapterKind::kShira) {
      return RefuseTensor("UNSUPPORTED", module.shira->name,
                          "belongs to SHiRA in an adapter that is none");
    }
    const std::string tensor = base_.NameOf(name + ".weight");
    CAIRN_ASSIGN_OR_RETURN(const Shape shape,
                           base_.ShapeOf(tensor, *module.shira, std::nullopt));
    const int64_t count = module.shira->elements();
    if (shape.size() != 2 || module.shira_indices->shape != Shape{2, count}) {
      return RefuseTensor(
          "SHAPE_MISMATCH", module.shira_indices->name,
          absl::StrCat("has the shape ", ShapeText(module.shira_indices->shape),
                       " for ", count, " values of ", tensor, ", which is ",
                       ShapeText(shape), "; it must be [2, ", count,
                       "], and the tensor a matrix"));
    }
    AddStep(tensor, shape,
            ScatterStep{.indices = *module.shira_indices,
                        .values = *module.shira,
                        .rows = shape[0],
                        .columns = shape[1]});
    return absl::OkStatus();
  }

  static constexpr const char* kEmbeddings[] = {
      "model.embed_tokens.weight", "transformer.wte.weight", "wte.weight"};

  const AdapterFile file_;
  const AdapterConfig& config_;
  AdapterBase base_;
  const Vocabulary vocabulary_;
  int64_t largest_dimension_ = 0;
  bool is_tied_copy_ = false;
  std::set<std::string> copies_;
  AdapterContents contents_;
  AdapterPlan plan_;
};

}  // namespace

absl::StatusOr<AdapterPlan> ReadAdapter(const AdapterFile& file,
                                        const BaseModel* base,
                                        Vocabulary vocabulary) {
  return AdapterReader(file, base, vocabulary).Read();
}

}  // namespace cairn
