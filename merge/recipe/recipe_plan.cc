#include "merge/recipe/recipe_plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/base_model.h"
#include "merge/recipe/layer_names.h"
#include "merge/recipe/output_config.h"

namespace cairn {
namespace {

absl::Status Unfit(absl::string_view reason, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason, what);
}

std::optional<DType> ParseTorchDType(absl::string_view name) {
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  return std::nullopt;
}

// What holds both exactly.
DType Promoted(DType a, DType b) { return a == b ? a : DType::kF32; }

// The layers that a model has, by its tensors' names.
int64_t CountLayers(const ModelSource& model) {
  int64_t layers = 0;
  for (const auto& [name, tensor] : model.tensors()) {
    const auto place = ParseLayerName(name);
    if (place) layers = std::max(layers, place->layer + 1);
  }
  return layers;
}

// A tensor of a source, whole.
class SourceWholeTensor : public WholeTensor {
 public:
  SourceWholeTensor(std::shared_ptr<const ModelSource> source,
                    const SourceTensor& tensor)
      : source_(std::move(source)), tensor_(tensor) {}
  const std::vector<int64_t>& shape() const override {
    return tensor_.spec.shape;
  }
  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::vector<char> raw;
    return source_->Read(tensor_, first, out, raw);
  }

 private:
  const std::shared_ptr<const ModelSource> source_;
  const SourceTensor& tensor_;
};

class RecipePlanner {
 public:
  RecipePlanner(const Recipe& recipe, const RecipeOptions& options,
                const SourceOpener& open)
      : recipe_(recipe),
        options_(options),
        open_(open),
        method_(*FindMethod(recipe.method)) {}

  absl::StatusOr<OutputPlan> Plan() {
    CAIRN_RETURN_IF_ERROR(MakeSlices());
    CAIRN_RETURN_IF_ERROR(PlanOutside());
    int64_t layer = 0;
    for (const RecipeSlice& slice : slices_) {
      CAIRN_RETURN_IF_ERROR(PlanSlice(slice, layer));
    }
    std::sort(plan_.outputs.begin(), plan_.outputs.end(),
              [](const PlannedOutput& a, const PlannedOutput& b) {
                return a.name < b.name;
              });
    if (plan_.outputs.empty()) {
      return Unfit("UNSUPPORTED", "the result would have no tensors");
    }
    CAIRN_RETURN_IF_ERROR(MakeConfig(layer));
    return std::move(plan_);
  }

 private:
  // Whole models become one slice of all their layers.
  absl::Status MakeSlices() {
    slices_ = recipe_.slices;
    if (slices_.empty()) {
      RecipeSlice slice;
      bool has_base = recipe_.base_model.empty();
      slice.sources = recipe_.models;
      for (const RecipeSource& source : slice.sources) {
        has_base |= source.model == recipe_.base_model;
      }
      if (!has_base) {
        slice.sources.push_back({.model = recipe_.base_model,
                                 .layers = std::nullopt,
                                 .parameters = {}});
      }
      slices_.push_back(std::move(slice));
    }
    for (RecipeSlice& slice : slices_) {
      CAIRN_RETURN_IF_ERROR(CheckInputs(slice));
      for (RecipeSource& source : slice.sources) {
        CAIRN_ASSIGN_OR_RETURN(const size_t index, SourceIndex(source.model));
        const int64_t layers = CountLayers(*plan_.sources[index]);
        if (!source.layers) source.layers = {0, layers};
        if (source.layers->second > layers) {
          return Unfit(
              "UNSUPPORTED",
              absl::StrCat("layer_range [", source.layers->first, ", ",
                           source.layers->second, ") of ", source.model,
                           ", which has ", layers, " layers"));
        }
      }
      for (const RecipeSource& source : slice.sources) {
        if (Length(source) == Length(slice.sources.front())) continue;
        return Unfit("SHAPE_MISMATCH",
                     absl::StrCat("the sources of a slice have different "
                                  "numbers of layers: ",
                                  slice.sources.front().model, " ",
                                  Length(slice.sources.front()), ", ",
                                  source.model, " ", Length(source)));
      }
    }
    return absl::OkStatus();
  }

  static int64_t Length(const RecipeSource& source) {
    return source.layers->second - source.layers->first;
  }

  const std::string& BaseOf(const RecipeSlice& slice) const {
    return slice.base_model.empty() ? recipe_.base_model : slice.base_model;
  }

  // Whether the method can do with these inputs.
  absl::Status CheckInputs(const RecipeSlice& slice) const {
    std::set<std::string> names;
    for (const RecipeSource& source : slice.sources) {
      if (!names.insert(source.model).second) {
        return Unfit("UNSUPPORTED",
                     absl::StrCat("model ", source.model,
                                  " is listed twice among the inputs"));
      }
    }
    const bool has_base = method_.base != MethodSpec::Base::kIgnored &&
                          names.contains(BaseOf(slice));
    if (method_.base == MethodSpec::Base::kRequired && !has_base) {
      return Unfit("UNSUPPORTED",
                   absl::StrCat("method ", method_.name,
                                " needs base_model, and in slices the base "
                                "among the sources"));
    }
    const auto count = static_cast<int>(names.size());
    const int others = count - (has_base ? 1 : 0);
    if (count < method_.inputs_min || count > method_.inputs_max ||
        others < method_.others_min || others > method_.others_max) {
      const int wanted = count < method_.inputs_min   ? method_.inputs_min
                         : count > method_.inputs_max ? method_.inputs_max
                         : others < method_.others_min
                             ? method_.others_min + (has_base ? 1 : 0)
                             : method_.others_max + (has_base ? 1 : 0);
      return Unfit(
          "UNSUPPORTED",
          absl::StrCat("method ", method_.name, " has ", count,
                       " inputs here, base included, and takes ",
                       count > wanted ? "at most " : "at least ", wanted));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> SourceIndex(const std::string& model) {
    const auto found = index_.find(model);
    if (found != index_.end()) return found->second;
    CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<ModelSource> source, open_(model));
    plan_.sources.push_back(std::move(source));
    index_[model] = plan_.sources.size() - 1;
    return plan_.sources.size() - 1;
  }

  // Tensors before the layers go by the first slice, those after by the last.
  absl::Status PlanOutside() {
    std::set<std::string> names;
    for (const RecipeSlice* slice : {&slices_.front(), &slices_.back()}) {
      for (const RecipeSource& source : slice->sources) {
        CAIRN_ASSIGN_OR_RETURN(const size_t index, SourceIndex(source.model));
        for (const auto& [name, tensor] : plan_.sources[index]->tensors()) {
          if (!ParseLayerName(name)) names.insert(name);
        }
      }
    }
    RecipeSlice last = slices_.back();
    const size_t most = slices_.front().sources.size();
    if (options_.imitates_mergekit && last.sources.size() > most) {
      last.sources.resize(most);
    }
    for (const std::string& name : names) {
      const RecipeSlice& slice = IsBeforeLayers(name) ? slices_.front() : last;
      const std::vector<std::string> inputs(slice.sources.size(), name);
      CAIRN_RETURN_IF_ERROR(PlanTensor(slice, name, inputs, 0));
    }
    return absl::OkStatus();
  }

  absl::Status PlanSlice(const RecipeSlice& slice, int64_t& layer) {
    const int64_t length = Length(slice.sources.front());
    // The layers' tensors, by any of the sources.
    std::set<std::pair<std::string, std::string>> parts;
    for (const RecipeSource& source : slice.sources) {
      CAIRN_ASSIGN_OR_RETURN(const size_t index, SourceIndex(source.model));
      for (const auto& [name, tensor] : plan_.sources[index]->tensors()) {
        const auto place = ParseLayerName(name);
        if (place && place->layer >= source.layers->first &&
            place->layer < source.layers->second) {
          parts.insert({place->stack, place->rest});
        }
      }
    }
    for (int64_t i = 0; i < length; ++i, ++layer) {
      const double t =
          length > 1 ? static_cast<double>(i) / static_cast<double>(length - 1)
                     : 1.0;
      for (const auto& [stack, rest] : parts) {
        const LayerName place = {.stack = stack, .layer = 0, .rest = rest};
        std::vector<std::string> inputs;
        bool is_anywhere = false;
        for (const RecipeSource& source : slice.sources) {
          inputs.push_back(place.Join(source.layers->first + i));
          is_anywhere |= plan_.sources[index_.at(source.model)]->Find(
                             inputs.back()) != nullptr;
        }
        if (!is_anywhere) continue;  // of another layer only
        CAIRN_RETURN_IF_ERROR(PlanTensor(slice, place.Join(layer), inputs, t));
      }
    }
    return absl::OkStatus();
  }

  absl::Status PlanTensor(const RecipeSlice& slice, const std::string& name,
                          const std::vector<std::string>& tensors, double t) {
    PlannedOutput output;
    output.name = name;
    std::vector<const SourceTensor*> found;
    for (size_t s = 0; s < tensors.size(); ++s) {
      CAIRN_ASSIGN_OR_RETURN(PlannedOutput::Input input,
                             FindInput(slice, s, tensors[s]));
      found.push_back(plan_.sources[input.source]->Find(input.tensor));
      output.inputs.push_back(std::move(input));
    }
    output.shape = found[0]->spec.shape;
    for (size_t s = 1; s < found.size(); ++s) {
      if (found[s]->spec.shape == output.shape) continue;
      return Unfit(
          "SHAPE_MISMATCH",
          absl::StrCat("tensor ", name, " has the shape ",
                       ShapeText(output.shape), " in ", slice.sources[0].model,
                       " and ", ShapeText(found[s]->spec.shape), " in ",
                       slice.sources[s].model));
    }
    CAIRN_ASSIGN_OR_RETURN(const bool is_merged,
                           ChooseTypes(slice, found, output));
    if (is_merged) {
      CAIRN_RETURN_IF_ERROR(FillTask(slice, tensors, t, output));
      CAIRN_RETURN_IF_ERROR(AddStatistics(slice, tensors, output));
    }
    plan_.outputs.push_back(std::move(output));
    return absl::OkStatus();
  }

  // The tensor of source `s`; for the output head of a model that ties it,
  // its embeddings.
  absl::StatusOr<PlannedOutput::Input> FindInput(const RecipeSlice& slice,
                                                 size_t s,
                                                 const std::string& tensor) {
    const std::string& model = slice.sources[s].model;
    CAIRN_ASSIGN_OR_RETURN(const size_t index, SourceIndex(model));
    const ModelSource& source = *plan_.sources[index];
    if (source.Find(tensor) != nullptr) {
      return PlannedOutput::Input{.source = index, .tensor = tensor};
    }
    if (tensor == "lm_head.weight" && TiesEmbeddings(source.config_json())) {
      for (const char* name :
           {"model.embed_tokens.weight", "transformer.wte.weight"}) {
        if (source.Find(name) != nullptr) {
          return PlannedOutput::Input{.source = index, .tensor = name};
        }
      }
    }
    return ReasonedError(absl::StatusCode::kInvalidArgument, "UNKNOWN_TENSOR",
                         absl::StrCat("model ", model, " has no tensor ",
                                      tensor, ", which another input has"),
                         {{"tensor", tensor}});
  }

  // False when the tensor holds no numbers and is to be copied.
  absl::StatusOr<bool> ChooseTypes(
      const RecipeSlice& slice, const std::vector<const SourceTensor*>& found,
      PlannedOutput& output) const {
    DType dtype = found[0]->spec.dtype;
    for (size_t s = 1; s < found.size(); ++s) {
      const DType other = found[s]->spec.dtype;
      if (IsNumeric(dtype) && IsNumeric(other)) {
        dtype = Promoted(dtype, other);
      } else if (dtype != other) {
        return Unfit(
            "DTYPE_MISMATCH",
            absl::StrCat("tensor ", output.name, " is ", DTypeName(dtype),
                         " in ", slice.sources[0].model, " and ",
                         DTypeName(other), " in ", slice.sources[s].model));
      }
    }
    output.dtype = output.work_dtype = dtype;
    if (!IsNumeric(dtype)) {
      const absl::string_view type = DTypeName(dtype);
      const bool is_float = type[0] == 'F' || type[0] == 'C';
      if (is_float && found.size() > 1) {
        return Unfit("DTYPE_MISMATCH",
                     absl::StrCat("tensor ", output.name, " is ", type,
                                  "; only F32, F16 and BF16 can be merged"));
      }
      return false;
    }
    if (auto work = ParseTorchDType(recipe_.dtype)) output.work_dtype = *work;
    output.dtype = output.work_dtype;
    if (auto out = ParseTorchDType(recipe_.out_dtype)) output.dtype = *out;
    return true;
  }

  absl::Status FillTask(const RecipeSlice& slice,
                        const std::vector<std::string>& tensors, double t,
                        PlannedOutput& output) const {
    using Scope = MethodParameter::Scope;
    output.method = &method_;
    MethodTask& task = output.task;
    task.shape = output.shape;
    task.profile = options_.profile;
    task.inputs.resize(tensors.size());
    for (size_t s = 0; s < tensors.size(); ++s) {
      if (method_.base != MethodSpec::Base::kIgnored &&
          slice.sources[s].model == BaseOf(slice)) {
        task.base = s;
      }
    }
    for (const MethodParameter& parameter : method_.parameters) {
      if (parameter.is_file()) continue;
      if (parameter.scope == Scope::kShared) {
        CAIRN_RETURN_IF_ERROR(Resolve(slice, parameter, nullptr, output.name, t,
                                      task.parameters));
        continue;
      }
      for (size_t s = 0; s < tensors.size(); ++s) {
        if (parameter.scope == Scope::kOther && task.base == s) continue;
        CAIRN_RETURN_IF_ERROR(Resolve(slice, parameter, &slice.sources[s],
                                      tensors[s], t,
                                      task.inputs[s].parameters));
      }
    }
    return absl::OkStatus();
  }

  // What the models' files of statistics say about a tensor.
  absl::Status AddStatistics(const RecipeSlice& slice,
                             const std::vector<std::string>& tensors,
                             PlannedOutput& output) {
    for (size_t s = 0; s < tensors.size(); ++s) {
      for (const auto& [name, path] : slice.sources[s].files) {
        CAIRN_ASSIGN_OR_RETURN(const size_t index, StatisticsIndex(path));
        const SourceTensor* found = plan_.sources[index]->Find(tensors[s]);
        const auto kind = method_.Find(name)->kind;
        if (kind == MethodParameter::Kind::kGramFile) {
          if (found == nullptr) continue;
          output.task.inputs[s].gram = std::make_shared<SourceWholeTensor>(
              plan_.sources[index], *found);
          continue;
        }
        if (output.task.base == s) continue;
        if (found == nullptr || found->spec.shape != output.shape) {
          return ReasonedError(
              absl::StatusCode::kInvalidArgument,
              found == nullptr ? "UNKNOWN_TENSOR" : "SHAPE_MISMATCH",
              absl::StrCat(path, " has no tensor ", tensors[s],
                           " of the shape ", ShapeText(output.shape)),
              {{"tensor", tensors[s]}});
        }
        output.inputs.push_back({.source = index, .tensor = tensors[s]});
        output.task.inputs.push_back({.fisher_of = s});
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> StatisticsIndex(const std::string& path) {
    const std::string key = absl::StrCat("statistics ", path);
    const auto found = index_.find(key);
    if (found != index_.end()) return found->second;
    CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<ModelSource> source,
                           options_.open_statistics(path));
    plan_.sources.push_back(std::move(source));
    return index_[key] = plan_.sources.size() - 1;
  }

  // From the narrowest scope that has a value for the tensor.
  absl::Status Resolve(const RecipeSlice& slice,
                       const MethodParameter& parameter,
                       const RecipeSource* source, const std::string& tensor,
                       double t, std::map<std::string, double>& out) const {
    std::vector<const ParameterSettings*> scopes;
    if (source != nullptr) scopes.push_back(&source->parameters);
    scopes.insert(scopes.end(), {&slice.parameters, &recipe_.module_parameters,
                                 &recipe_.parameters});
    for (const ParameterSettings* scope : scopes) {
      const auto setting = scope->find(parameter.name);
      if (setting == scope->end()) continue;
      if (const auto value = EvaluateSetting(setting->second, tensor, t)) {
        out[parameter.name] = *value;
        return absl::OkStatus();
      }
    }
    if (parameter.is_optional) return absl::OkStatus();
    if (parameter.fallback) {
      out[parameter.name] = *parameter.fallback;
      return absl::OkStatus();
    }
    return Unfit(
        "UNSUPPORTED",
        absl::StrCat(
            "method ", method_.name, " needs parameter ", parameter.name,
            source == nullptr ? "" : absl::StrCat(" of model ", source->model),
            ", and no value is given for tensor ", tensor));
  }

  absl::Status MakeConfig(int64_t layers) {
    const std::string& model = recipe_.base_model.empty()
                                   ? slices_.front().sources.front().model
                                   : recipe_.base_model;
    CAIRN_ASSIGN_OR_RETURN(const size_t index, SourceIndex(model));
    std::set<std::string> stacks;
    for (const PlannedOutput& output : plan_.outputs) {
      if (auto place = ParseLayerName(output.name)) stacks.insert(place->stack);
    }
    std::string dtype = recipe_.out_dtype;
    if (dtype.empty()) dtype = recipe_.dtype;
    CAIRN_ASSIGN_OR_RETURN(
        plan_.config_json,
        MakeOutputConfig(
            plan_.sources[index]->config_json(), model, dtype,
            recipe_.slices.empty() || stacks.size() != 1 ? -1 : layers));
    return absl::OkStatus();
  }

  const Recipe& recipe_;
  const RecipeOptions& options_;
  const SourceOpener& open_;
  const MethodSpec& method_;
  std::vector<RecipeSlice> slices_;
  std::map<std::string, size_t> index_;
  OutputPlan plan_;
};

}  // namespace

absl::StatusOr<OutputPlan> PlanRecipe(const Recipe& recipe,
                                      const RecipeOptions& options,
                                      const SourceOpener& open) {
  CAIRN_ASSIGN_OR_RETURN(OutputPlan plan,
                         RecipePlanner(recipe, options, open).Plan());
  plan.seed = options.seed;
  plan.care = recipe.care;
  return plan;
}

}  // namespace cairn
