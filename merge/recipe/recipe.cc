#include "merge/recipe/recipe.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/method/tensor_method.h"
#include "merge/recipe/named_templates.h"
#include "merge/recipe/yaml_documents.h"

namespace cairn {
namespace {

constexpr size_t kRecipeBytesMax = 1 << 20;
// A document is a merge of whole models.
constexpr int kDocumentsMax = 1000;
constexpr size_t kSourcesMax = 4096;
constexpr size_t kTokenRulesMax = 1 << 16;
constexpr int64_t kMultipleMax = 1 << 20;
// A shorter chat template is taken for a name.
constexpr size_t kTemplateBytesMin = 20;

// Reads one document. yaml-cpp's exceptions end at ParseRecipe().
class RecipeReader {
 public:
  RecipeReader(absl::string_view label, UnknownKeys unknown_keys,
               std::vector<std::string>& warnings)
      : label_(label), unknown_keys_(unknown_keys), warnings_(warnings) {}

  absl::StatusOr<Recipe> Read(const YAML::Node& root) {
    if (!root.IsMap()) {
      return Error(root, "a recipe is a mapping with merge_method and models");
    }
    CAIRN_RETURN_IF_ERROR(CheckKeys(
        root, "recipe",
        {"name", "merge_method", "base_model", "models", "slices", "modules",
         "parameters", "dtype", "out_dtype", "tokenizer_source", "tokenizer",
         "chat_template", "clip_norm", "duplicates", "duplicate_cosine"}));
    Recipe recipe;
    CAIRN_RETURN_IF_ERROR(ReadText(root, "name", recipe.name));
    CAIRN_RETURN_IF_ERROR(ReadText(root, "merge_method", recipe.method));
    method_ = FindMethod(recipe.method);
    if (method_ == nullptr) {
      return Error(root,
                   absl::StrCat("merge_method \"", recipe.method,
                                "\" is not known; there are ", MethodNames()));
    }
    CAIRN_RETURN_IF_ERROR(ReadModel(root, "base_model", recipe.base_model));
    CAIRN_RETURN_IF_ERROR(ReadDType(root, "dtype", recipe.dtype));
    CAIRN_RETURN_IF_ERROR(ReadDType(root, "out_dtype", recipe.out_dtype));
    CAIRN_RETURN_IF_ERROR(
        ReadText(root, "tokenizer_source", recipe.tokenizer_source));
    CAIRN_RETURN_IF_ERROR(ReadTokenizer(root, recipe));
    CAIRN_RETURN_IF_ERROR(ReadChatTemplate(root, recipe.chat_template));
    CAIRN_RETURN_IF_ERROR(ReadCare(root, recipe));
    CAIRN_RETURN_IF_ERROR(ReadParameters(root, recipe.parameters));
    CAIRN_RETURN_IF_ERROR(ReadBody(root, recipe));
    return recipe;
  }

 private:
  absl::Status Error(const YAML::Node& node, absl::string_view what) const {
    const int line = node.IsDefined() ? node.Mark().line + 1 : 0;
    return ReasonedError(absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
                         line > 0 ? absl::StrCat(label_, ":", line, ": ", what)
                                  : absl::StrCat(label_, ": ", what));
  }

  static std::string MethodNames() {
    return absl::StrJoin(AllMethods(), ", ",
                         [](std::string* out, const MethodSpec& spec) {
                           out->append(spec.name);
                         });
  }

  absl::Status Unknown(const YAML::Node& node, absl::string_view what) {
    const absl::Status error = Error(node, what);
    if (unknown_keys_ == UnknownKeys::kRefuse) return error;
    warnings_.push_back(
        absl::StrCat(absl::string_view(error.message()), "; it is ignored"));
    return absl::OkStatus();
  }

  absl::Status CheckKeys(const YAML::Node& map, absl::string_view where,
                         const std::set<std::string>& known) {
    std::set<std::string> seen;
    for (const auto& entry : map) {
      const auto key = entry.first.as<std::string>();
      if (!seen.insert(key).second) {
        return Error(entry.first, absl::StrCat("key \"", key, "\" of the ",
                                               where, " is there twice"));
      }
      if (known.contains(key)) continue;
      CAIRN_RETURN_IF_ERROR(
          Unknown(entry.first,
                  absl::StrCat("the ", where, " has no key \"", key,
                               "\"; it has ", absl::StrJoin(known, ", "))));
    }
    return absl::OkStatus();
  }

  absl::Status ReadText(const YAML::Node& map, const char* key,
                        std::string& out) const {
    const YAML::Node node = map[key];
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    if (!node.IsScalar()) {
      return Error(node, absl::StrCat(key, " must be a text"));
    }
    out = node.as<std::string>();
    return absl::OkStatus();
  }

  absl::Status ReadChatTemplate(const YAML::Node& root,
                                std::string& out) const {
    CAIRN_RETURN_IF_ERROR(ReadText(root, "chat_template", out));
    const bool is_template =
        out.size() >= kTemplateBytesMin && absl::StrContains(out, "{");
    if (out.empty() || out == "auto" || is_template ||
        !NamedChatTemplate(out).empty()) {
      return absl::OkStatus();
    }
    return Error(root["chat_template"],
                 absl::StrCat("chat_template \"", out,
                              "\" is neither \"auto\", a template in Jinja, "
                              "nor one of ",
                              ChatTemplateNames()));
  }

  // `tokenizer_source: X`, or `tokenizer: {source: X}`.
  absl::Status ReadTokenizer(const YAML::Node& root, Recipe& recipe) {
    const YAML::Node node = root["tokenizer"];
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    if (!recipe.tokenizer_source.empty() || !node.IsMap()) {
      return Error(node,
                   "tokenizer must be a mapping with a source, and "
                   "stands without tokenizer_source");
    }
    CAIRN_RETURN_IF_ERROR(CheckKeys(
        node, "tokenizer", {"source", "tokens", "pad_to_multiple_of"}));
    recipe.tokenizer_source = "union";
    CAIRN_RETURN_IF_ERROR(ReadModel(node, "source", recipe.tokenizer_source));
    CAIRN_RETURN_IF_ERROR(ReadCount(node, "pad_to_multiple_of", kMultipleMax,
                                    recipe.pad_to_multiple_of));
    return ReadTokens(node["tokens"], recipe.tokens);
  }

  absl::Status ReadCount(const YAML::Node& map, const char* key, int64_t most,
                         int64_t& out) const {
    const YAML::Node node = map[key];
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    const bool is_number =
        node.IsScalar() && absl::SimpleAtoi(node.as<std::string>(), &out);
    if (is_number && out >= 0 && out <= most) return absl::OkStatus();
    return Error(node,
                 absl::StrCat(key, " must be an integer from 0 to ", most));
  }

  // `TOKEN: {source: MODEL | {kind: zero} | {kind: model_token, model: MODEL,
  // token: TOKEN | token_id: ROW}, force: true | false}`.
  absl::Status ReadTokens(const YAML::Node& node, std::vector<TokenRule>& out) {
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    if (!node.IsMap() || node.size() > kTokenRulesMax) {
      return Error(node, "tokens must be a mapping from tokens to rules");
    }
    std::set<std::string> seen;
    for (const auto& entry : node) {
      TokenRule& rule = out.emplace_back();
      rule.token = entry.first.as<std::string>();
      if (rule.token.empty() || !seen.insert(rule.token).second) {
        return Error(entry.first, absl::StrCat("token \"", rule.token,
                                               "\" is empty or there twice"));
      }
      if (!entry.second.IsMap()) {
        return Error(entry.second,
                     "a rule of a token is a mapping with the "
                     "keys source and force");
      }
      CAIRN_RETURN_IF_ERROR(
          CheckKeys(entry.second, "rule of a token", {"source", "force"}));
      const YAML::Node force = entry.second["force"];
      if (force.IsDefined() && !force.IsNull() &&
          (!force.IsScalar() ||
           !YAML::convert<bool>::decode(force, rule.is_for_all))) {
        return Error(force, "force must be true or false");
      }
      CAIRN_RETURN_IF_ERROR(ReadTokenSource(entry.second, rule));
    }
    return absl::OkStatus();
  }

  absl::Status ReadTokenSource(const YAML::Node& map, TokenRule& rule) {
    using From = TokenRule::From;
    const YAML::Node node = map["source"];
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    if (!node.IsMap() || !node["kind"].IsDefined()) {
      rule.from = From::kModel;
      CAIRN_RETURN_IF_ERROR(ReadModel(map, "source", rule.model));
      if (rule.model.empty()) return Error(node, "source names no model");
      return absl::OkStatus();
    }
    CAIRN_RETURN_IF_ERROR(CheckKeys(node, "source of a token",
                                    {"kind", "model", "token", "token_id"}));
    std::string kind;
    CAIRN_RETURN_IF_ERROR(ReadText(node, "kind", kind));
    if (kind == "zero") {
      rule.from = From::kZeros;
      return absl::OkStatus();
    }
    if (kind != "model_token") {
      return Error(node["kind"], "kind must be zero or model_token");
    }
    CAIRN_RETURN_IF_ERROR(ReadModel(node, "model", rule.model));
    const auto is_given = [&](const char* key) {
      return node[key].IsDefined() && !node[key].IsNull();
    };
    if (rule.model.empty() || is_given("token") == is_given("token_id")) {
      return Error(node,
                   "a source of kind model_token has a model and either "
                   "a token or a token_id");
    }
    rule.from = is_given("token") ? From::kToken : From::kRow;
    CAIRN_RETURN_IF_ERROR(ReadText(node, "token", rule.other));
    return ReadCount(node, "token_id", int64_t{1} << 31, rule.row);
  }

  absl::Status ReadCare(const YAML::Node& root, Recipe& recipe) const {
    StrategyParameters given;
    for (const char* key : {"clip_norm", "duplicates", "duplicate_cosine"}) {
      std::string text;
      CAIRN_RETURN_IF_ERROR(ReadText(root, key, text));
      if (text.empty()) continue;
      given[key] = text;
      const absl::Status fits = CheckCare(given);
      if (!fits.ok()) return Error(root[key], std::string(fits.message()));
      if (method_->base == MethodSpec::Base::kIgnored) {
        return Error(root[key],
                     absl::StrCat(key,
                                  " is about differences from a base, and "
                                  "method ",
                                  method_->name, " has none"));
      }
    }
    recipe.care = CareOf(given);
    return absl::OkStatus();
  }

  // A model: a text, or {model: ..., lora: ...} with paths.
  absl::Status ReadModel(const YAML::Node& map, const char* key,
                         std::string& out) const {
    const YAML::Node node = map[key];
    if (!node.IsDefined() || !node.IsMap()) return ReadText(map, key, out);
    const auto path = [](const YAML::Node& part) {
      return part.IsMap() ? part["path"].as<std::string>()
                          : part.as<std::string>();
    };
    out = path(node["model"]);
    if (node["lora"].IsDefined() && !node["lora"].IsNull()) {
      absl::StrAppend(&out, "+", path(node["lora"]));
    }
    return absl::OkStatus();
  }

  absl::Status ReadDType(const YAML::Node& map, const char* key,
                         std::string& out) const {
    CAIRN_RETURN_IF_ERROR(ReadText(map, key, out));
    if (absl::StartsWith(out, "torch.")) out = out.substr(6);
    if (out.empty() || out == "float32" || out == "float16" ||
        out == "bfloat16") {
      return absl::OkStatus();
    }
    return Error(map[key], absl::StrCat(key, " \"", out,
                                        "\" is not known; there are float32, "
                                        "float16 and bfloat16"));
  }

  // `files`: where those parameters go that name a file; null: none may.
  absl::Status ReadParameters(
      const YAML::Node& map, ParameterSettings& out,
      std::map<std::string, std::string>* files = nullptr) {
    const YAML::Node node = map["parameters"];
    if (!node.IsDefined() || node.IsNull()) return absl::OkStatus();
    if (!node.IsMap()) return Error(node, "parameters must be a mapping");
    for (const auto& entry : node) {
      const auto name = entry.first.as<std::string>();
      const MethodParameter* parameter = method_->Find(name);
      if (parameter == nullptr) {
        CAIRN_RETURN_IF_ERROR(Unknown(
            entry.first,
            absl::StrCat(
                "method ", method_->name, " has no parameter \"", name,
                "\"; it has ",
                absl::StrJoin(method_->parameters, ", ",
                              [](std::string* text, const MethodParameter& p) {
                                text->append(p.name);
                              }))));
        continue;
      }
      if (!parameter->is_file()) {
        CAIRN_RETURN_IF_ERROR(ReadSetting(entry.second, *parameter, out[name]));
        continue;
      }
      if (files == nullptr || !entry.second.IsScalar()) {
        return Error(entry.first,
                     absl::StrCat("parameter ", name,
                                  " names a file and belongs to one model"));
      }
      (*files)[name] = entry.second.as<std::string>();
    }
    return absl::OkStatus();
  }

  absl::Status ReadSetting(const YAML::Node& node,
                           const MethodParameter& parameter,
                           ParameterSetting& out) {
    if (node.IsMap()) {
      out.emplace_back();
      return ReadFiltered(node, parameter, out.back());
    }
    const bool is_list_of_maps =
        node.IsSequence() && node.size() > 0 && node[0].IsMap();
    if (!is_list_of_maps) {
      out.emplace_back();
      return ReadGradient(node, parameter, out.back().value);
    }
    for (const YAML::Node& item : node) {
      out.emplace_back();
      CAIRN_RETURN_IF_ERROR(ReadFiltered(item, parameter, out.back()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadFiltered(const YAML::Node& node,
                            const MethodParameter& parameter,
                            FilteredValue& out) {
    if (!node.IsMap()) {
      return Error(node, absl::StrCat("parameter ", parameter.name,
                                      " mixes values with filters"));
    }
    CAIRN_RETURN_IF_ERROR(
        CheckKeys(node, absl::StrCat("value of parameter ", parameter.name),
                  {"filter", "value"}));
    CAIRN_RETURN_IF_ERROR(ReadText(node, "filter", out.filter));
    return ReadGradient(node["value"], parameter, out.value);
  }

  absl::Status ReadGradient(const YAML::Node& node,
                            const MethodParameter& parameter, Gradient& out) {
    if (!node.IsDefined() || node.IsNull()) {
      return Error(node,
                   absl::StrCat("parameter ", parameter.name, " has no value"));
    }
    if (!node.IsSequence()) {
      out.emplace_back();
      return ReadNumber(node, parameter, out.back());
    }
    for (const YAML::Node& item : node) {
      out.emplace_back();
      CAIRN_RETURN_IF_ERROR(ReadNumber(item, parameter, out.back()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadNumber(const YAML::Node& node,
                          const MethodParameter& parameter, double& out) const {
    using Kind = MethodParameter::Kind;
    const std::string text = node.IsScalar() ? node.as<std::string>() : "?";
    bool flag = false;
    if (parameter.kind == Kind::kBool && node.IsScalar() &&
        YAML::convert<bool>::decode(node, flag)) {
      out = flag ? 1 : 0;
      return absl::OkStatus();
    }
    const bool is_number =
        node.IsScalar() && absl::SimpleAtod(text, &out) && std::isfinite(out) &&
        (parameter.kind != Kind::kInteger || out == std::floor(out));
    if (is_number && out >= parameter.least && out <= parameter.most) {
      return absl::OkStatus();
    }
    const char* wanted = parameter.kind == Kind::kBool      ? "true or false"
                         : parameter.kind == Kind::kInteger ? "an integer"
                                                            : "a number";
    const bool has_range = parameter.most < 1e29;
    return Error(
        node, absl::StrCat("parameter ", parameter.name, " is \"", text,
                           "\"; it must be ", wanted,
                           has_range ? absl::StrCat(" from ", parameter.least,
                                                    " to ", parameter.most)
                                     : ""));
  }

  absl::Status ReadSource(const YAML::Node& node, bool has_layers,
                          RecipeSource& out) {
    if (!node.IsMap()) {
      return Error(node, "a source is a mapping with the key model");
    }
    std::set<std::string> keys = {"model", "parameters"};
    if (has_layers) keys.insert("layer_range");
    CAIRN_RETURN_IF_ERROR(CheckKeys(node, "source", keys));
    CAIRN_RETURN_IF_ERROR(ReadModel(node, "model", out.model));
    if (out.model.empty()) return Error(node, "a source has no model");
    CAIRN_RETURN_IF_ERROR(ReadParameters(node, out.parameters, &out.files));
    if (!has_layers) return absl::OkStatus();
    const YAML::Node range = node["layer_range"];
    if (!range.IsSequence() || range.size() != 2) {
      return Error(node, "layer_range must be [first, last)");
    }
    out.layers = {range[0].as<int64_t>(), range[1].as<int64_t>()};
    if (out.layers->first < 0 || out.layers->second < out.layers->first) {
      return Error(range, "layer_range must be [first, last), 0 <= first");
    }
    return absl::OkStatus();
  }

  absl::Status ReadModels(const YAML::Node& node, Recipe& recipe) {
    if (!node.IsSequence() || node.size() == 0 || node.size() > kSourcesMax) {
      return Error(node, "models must be a list of models");
    }
    for (const YAML::Node& item : node) {
      CAIRN_RETURN_IF_ERROR(
          ReadSource(item, false, recipe.models.emplace_back()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadSlices(const YAML::Node& node, Recipe& recipe) {
    if (!node.IsSequence() || node.size() == 0 || node.size() > kSourcesMax) {
      return Error(node, "slices must be a list of slices");
    }
    for (const YAML::Node& item : node) {
      RecipeSlice& slice = recipe.slices.emplace_back();
      if (!item.IsMap() || !item["sources"].IsSequence() ||
          item["sources"].size() == 0) {
        return Error(item, "a slice is a mapping with a list of sources");
      }
      CAIRN_RETURN_IF_ERROR(CheckKeys(
          item, "slice",
          {"sources", "base_model", "residual_weight", "parameters"}));
      CAIRN_RETURN_IF_ERROR(ReadModel(item, "base_model", slice.base_model));
      CAIRN_RETURN_IF_ERROR(ReadParameters(item, slice.parameters));
      if (item["residual_weight"].IsDefined()) {
        CAIRN_RETURN_IF_ERROR(
            Unknown(item["residual_weight"], "residual_weight does nothing"));
      }
      for (const YAML::Node& source : item["sources"]) {
        CAIRN_RETURN_IF_ERROR(
            ReadSource(source, true, slice.sources.emplace_back()));
      }
    }
    return absl::OkStatus();
  }

  // models, slices, or the one of modules.
  absl::Status ReadBody(const YAML::Node& root, Recipe& recipe) {
    int bodies = 0;
    for (const char* key : {"models", "slices", "modules"}) {
      bodies += root[key].IsDefined() && !root[key].IsNull() ? 1 : 0;
    }
    if (bodies != 1) {
      return Error(root,
                   "there must be exactly one of models, slices and modules");
    }
    YAML::Node body = root;
    const YAML::Node modules = root["modules"];
    if (modules.IsDefined() && !modules.IsNull()) {
      if (!modules.IsMap() || modules.size() != 1) {
        return Error(modules,
                     "modules must have one entry: models of several modules "
                     "are not supported");
      }
      body.reset(modules.begin()->second);
      CAIRN_RETURN_IF_ERROR(
          CheckKeys(body, "module", {"models", "slices", "parameters"}));
      CAIRN_RETURN_IF_ERROR(ReadParameters(body, recipe.module_parameters));
      if (body["models"].IsDefined() == body["slices"].IsDefined()) {
        return Error(body, "a module has either models or slices");
      }
    }
    if (body["models"].IsDefined() && !body["models"].IsNull()) {
      return ReadModels(body["models"], recipe);
    }
    return ReadSlices(body["slices"], recipe);
  }

  const absl::string_view label_;
  const UnknownKeys unknown_keys_;
  std::vector<std::string>& warnings_;
  const MethodSpec* method_ = nullptr;
};

}  // namespace

std::optional<double> EvaluateSetting(const ParameterSetting& setting,
                                      absl::string_view tensor, double t) {
  for (const FilteredValue& choice : setting) {
    if (!choice.filter.empty() && choice.filter != "*" &&
        !absl::StrContains(tensor, choice.filter)) {
      continue;
    }
    if (choice.value.empty()) continue;
    const double scaled = t * static_cast<double>(choice.value.size() - 1);
    const auto low = static_cast<size_t>(scaled);
    const size_t high = std::min(choice.value.size() - 1, low + 1);
    const double part = scaled - static_cast<double>(low);
    return (1 - part) * choice.value[low] + part * choice.value[high];
  }
  return std::nullopt;
}

std::vector<std::string> ModelsOf(const Recipe& recipe) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (name.empty() ||
        std::find(names.begin(), names.end(), name) != names.end()) {
      return;
    }
    names.push_back(name);
  };
  add(recipe.base_model);
  for (const RecipeSource& source : recipe.models) add(source.model);
  for (const RecipeSlice& slice : recipe.slices) {
    add(slice.base_model);
    for (const RecipeSource& source : slice.sources) add(source.model);
  }
  return names;
}

absl::StatusOr<std::vector<Recipe>> ParseRecipe(
    absl::string_view text, absl::string_view label, UnknownKeys unknown_keys,
    std::vector<std::string>& warnings) {
  if (text.size() > kRecipeBytesMax) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat(label, ": a recipe has at most ",
                                      kRecipeBytesMax, " bytes"));
  }
  const std::string yaml(text);
  std::vector<Recipe> recipes;
  try {
    if (HasMoreDocuments(yaml, kDocumentsMax)) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
          absl::StrCat(label, ": is no YAML, or has more than ", kDocumentsMax,
                       " documents"));
    }
    for (const YAML::Node& node : YAML::LoadAll(yaml)) {
      if (node.IsNull()) continue;
      RecipeReader reader(label, unknown_keys, warnings);
      CAIRN_ASSIGN_OR_RETURN(recipes.emplace_back(), reader.Read(node));
    }
  } catch (const YAML::Exception& error) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
        absl::StrCat(label, ":", error.mark.line + 1, ": ", error.msg));
  }
  if (recipes.empty()) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         absl::StrCat(label, ": the recipe is empty"));
  }
  return recipes;
}

}  // namespace cairn
