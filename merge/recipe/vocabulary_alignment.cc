#include "merge/recipe/vocabulary_alignment.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/base_model.h"
#include "merge/recipe/tokenizer_file.h"
#include "merge/recipe/vocabulary_map.h"

namespace cairn {
namespace {

constexpr char kTokenizer[] = "tokenizer.json";
constexpr char kTokenizerConfig[] = "tokenizer_config.json";
constexpr int64_t kTokenizerBytesMax = int64_t{256} << 20;

// Whether a tensor has a row a token, by the names that architectures give
// their embeddings and heads.
bool HasTokens(absl::string_view name) {
  static constexpr const char* kModules[] = {
      "embed_tokens", "lm_head",          "wte",    "word_embeddings",
      "embed_in",     "embed_out",        "shared", "tok_embeddings",
      "output",       "final_logits_bias"};
  std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
  if (parts.size() > 1 &&
      (parts.back() == "weight" || parts.back() == "bias")) {
    parts.pop_back();
  }
  return std::any_of(
      std::begin(kModules), std::end(kModules),
      [&](const char* module) { return parts.back() == module; });
}

// One model of a recipe.
struct Opened {
  std::string name;
  std::shared_ptr<ModelSource> source;
  std::optional<TokenizerFile> tokenizer;
  int64_t rows = 0;  // of its embeddings
  bool is_merged = true;
};

absl::StatusOr<std::string> ReadTokenizer(const ModelSource& model,
                                          const char* file) {
  const auto found = model.files().find(file);
  if (found == model.files().end()) return std::string();
  return ReadAll(*found->second, kTokenizerBytesMax);
}

class Aligner {
 public:
  explicit Aligner(const Recipe& recipe) : recipe_(recipe) {}

  absl::StatusOr<AlignedModels> Align(const SourceOpener& open) {
    CAIRN_RETURN_IF_ERROR(OpenAll(open));
    CAIRN_ASSIGN_OR_RETURN(const bool is_known, ReadTokenizers());
    for (const Opened& model : models_) {
      result_.models[model.name] = model.source;
    }
    if (!is_known) {
      if (recipe_.tokens.empty() && recipe_.pad_to_multiple_of == 0) {
        return std::move(result_);
      }
      return Refuse(models_[from_], absl::StrCat("has no ", kTokenizer,
                                                 ", which tokens and "
                                                 "pad_to_multiple_of are "
                                                 "about"));
    }
    CAIRN_ASSIGN_OR_RETURN(TokenizerFile common, Common());
    std::vector<ModelVocabulary> vocabularies;
    for (const Opened& model : models_) {
      vocabularies.push_back({.tokenizer = &*model.tokenizer,
                              .rows = model.rows,
                              .is_merged = model.is_merged});
    }
    std::optional<size_t> base;
    if (!recipe_.base_model.empty()) base = 0;
    VocabularyMap map = MapVocabularies(common, vocabularies, from_, base);
    for (const TokenRule& rule : recipe_.tokens) {
      CAIRN_RETURN_IF_ERROR(ApplyRule(rule, common, map));
    }
    if (recipe_.pad_to_multiple_of > 0) {
      PadVocabulary(recipe_.pad_to_multiple_of, map);
    }
    map_ = std::make_shared<const VocabularyMap>(std::move(map));
    CAIRN_RETURN_IF_ERROR(AlignAll());
    if (!result_.vocab_size.has_value()) return std::move(result_);
    CAIRN_RETURN_IF_ERROR(KeepFiles(common));
    return std::move(result_);
  }

 private:
  absl::Status Refuse(const Opened& model, absl::string_view what) const {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
                         absl::StrCat(model.source->label(), " ", what));
  }

  absl::Status OpenAll(const SourceOpener& open) {
    std::vector<std::string> names = ModelsOf(recipe_);
    const std::string& source = recipe_.tokenizer_source;
    if (source == "base" || source == "union") {
      from_ = 0;
    } else {
      const auto found = std::find(names.begin(), names.end(), source);
      from_ = static_cast<size_t>(found - names.begin());
      if (found == names.end()) names.push_back(source);
    }
    const size_t merged = ModelsOf(recipe_).size();
    for (const std::string& name : names) {
      Opened& model = models_.emplace_back();
      model.name = name;
      model.is_merged = models_.size() <= merged;
      CAIRN_ASSIGN_OR_RETURN(model.source, open(name));
      for (const auto& [tensor_name, tensor] : model.source->tensors()) {
        if (!HasTokens(tensor_name) || tensor.spec.shape.empty()) continue;
        const int64_t rows = tensor.spec.shape[0];
        if (model.rows != 0 && model.rows != rows) {
          return Refuse(
              model, absl::StrCat("has ", rows, " rows in ", tensor_name,
                                  " and ", model.rows, " in its embeddings"));
        }
        model.rows = rows;
      }
    }
    result_.like = models_[from_].source;
    return absl::OkStatus();
  }

  // False when there is no tokenizer.json to go by.
  absl::StatusOr<bool> ReadTokenizers() {
    for (Opened& model : models_) {
      CAIRN_ASSIGN_OR_RETURN(const std::string text,
                             ReadTokenizer(*model.source, kTokenizer));
      if (text.empty()) continue;
      CAIRN_ASSIGN_OR_RETURN(
          model.tokenizer,
          TokenizerFile::Parse(
              text, absl::StrCat(model.source->label(), "/", kTokenizer)));
    }
    Opened& from = models_[from_];
    if (!from.tokenizer.has_value()) {
      if (recipe_.tokenizer_source == "union") {
        return Refuse(from, absl::StrCat("has no ", kTokenizer,
                                         ", without which there is no union"));
      }
      result_.warnings.push_back(
          absl::StrCat(from.source->label(), " has no ", kTokenizer,
                       ": rows of vocabularies are merged by number"));
      return false;
    }
    for (Opened& model : models_) {
      if (model.tokenizer.has_value()) continue;
      result_.warnings.push_back(absl::StrCat(model.source->label(), " has no ",
                                              kTokenizer,
                                              ": it is taken to "
                                              "have the tokens of ",
                                              from.source->label()));
      model.tokenizer = from.tokenizer;
    }
    if (from.rows == 0) return Refuse(from, "has no embeddings by name");
    return true;
  }

  // The tokenizer of the result.
  absl::StatusOr<TokenizerFile> Common() {
    TokenizerFile common = *models_[from_].tokenizer;
    CAIRN_RETURN_IF_ERROR(common.DropFrom(models_[from_].rows));
    if (recipe_.tokenizer_source == "union") TakeUnion(common);
    for (const TokenRule& rule : recipe_.tokens) {
      if (!common.tokens().contains(rule.token)) common.AddPlain(rule.token);
    }
    return common;
  }

  void TakeUnion(TokenizerFile& common) const {
    for (const Opened& model : models_) {
      // By number, plain tokens first.
      std::vector<std::pair<int64_t, std::string>> plain, added;
      for (const auto& [token, number] : model.tokenizer->tokens()) {
        if (number >= model.rows) continue;
        auto& list = model.tokenizer->IsAdded(token) ? added : plain;
        list.emplace_back(number, token);
      }
      std::sort(plain.begin(), plain.end());
      std::sort(added.begin(), added.end());
      for (const auto& [number, token] : plain) {
        if (!common.tokens().contains(token)) {
          common.Add(token, *model.tokenizer);
        }
      }
      for (const auto& [number, token] : added) {
        if (!common.tokens().contains(token)) {
          common.Add(token, *model.tokenizer);
        } else if (!common.IsAdded(token)) {
          common.MakeAdded(token, *model.tokenizer);
        }
      }
    }
  }

  absl::Status RefuseRule(const TokenRule& rule, absl::string_view what) const {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
                         absl::StrCat("tokens: \"", rule.token, "\" ", what));
  }

  absl::Status ApplyRule(const TokenRule& rule, const TokenizerFile& common,
                         VocabularyMap& map) {
    using From = TokenRule::From;
    const auto at = static_cast<size_t>(common.tokens().at(rule.token));
    bool is_needed = rule.is_for_all;
    for (size_t m = 0; m < models_.size(); ++m) {
      is_needed |= models_[m].is_merged && map.rows[m][at] < 0;
    }
    if (!is_needed) return absl::OkStatus();
    if (rule.from == From::kNothing) {
      return RefuseRule(rule, rule.is_for_all
                                  ? "has no source, and is forced on all"
                                  : "has no source, and a model lacks it");
    }
    VocabularyMap::Donor donor = {.is_for_all = rule.is_for_all};
    if (rule.from != From::kZeros) {
      CAIRN_ASSIGN_OR_RETURN(std::tie(donor.model, donor.row),
                             FindRow(rule, static_cast<int64_t>(at), map));
      lenders_.insert(static_cast<size_t>(donor.model));
    }
    map.donors[at] = donor;
    return absl::OkStatus();
  }

  // The model and the row of it that a rule names.
  absl::StatusOr<std::pair<int32_t, int32_t>> FindRow(
      const TokenRule& rule, int64_t at, const VocabularyMap& map) const {
    const auto model = std::find_if(
        models_.begin(), models_.end(),
        [&](const Opened& m) { return m.is_merged && m.name == rule.model; });
    if (model == models_.end()) {
      return RefuseRule(rule, absl::StrCat("has ", rule.model,
                                           " for its "
                                           "source, which is no model of the "
                                           "merge"));
    }
    const auto index = static_cast<size_t>(model - models_.begin());
    int64_t row = rule.row;
    if (rule.from == TokenRule::From::kModel) {
      row = map.rows[index][static_cast<size_t>(at)];
    } else if (rule.from == TokenRule::From::kToken) {
      const auto found = model->tokenizer->tokens().find(rule.other);
      row = found == model->tokenizer->tokens().end() ? -1 : found->second;
    }
    if (row < 0 || row >= model->rows) {
      return RefuseRule(rule, absl::StrCat("has a source that ", rule.model,
                                           " has no row for"));
    }
    return std::make_pair(static_cast<int32_t>(index),
                          static_cast<int32_t>(row));
  }

  // What the rows of a model become, for its content in records; as it was
  // before there were rules and padding, where there are none.
  std::string DigestOfRows(size_t m) const {
    Hasher hasher;
    for (const int32_t row : map_->rows[m]) {
      hasher.Update(absl::StrCat(row, " "));
    }
    if (!recipe_.tokens.empty() || recipe_.pad_to_multiple_of > 0) {
      hasher.Update(absl::StrCat("of ", map_->size));
      for (const VocabularyMap::Donor& donor : map_->donors) {
        hasher.Update(absl::StrCat(" ", donor.model, " ", donor.row, " ",
                                   donor.is_for_all ? 1 : 0));
      }
    }
    return hasher.Finish().hex();
  }

  absl::Status AlignAll() {
    std::map<std::string, std::shared_ptr<const VocabularyTensors>> tensors;
    for (size_t m = 0; m < models_.size(); ++m) {
      if (!models_[m].is_merged || map_->IsIdentity(m, models_[m].rows)) {
        continue;
      }
      ModelEffects effects;
      for (const auto& [name, tensor] : models_[m].source->tensors()) {
        if (!HasTokens(name) || tensor.spec.shape.empty()) continue;
        auto& shared = tensors[name];
        if (shared == nullptr) {
          CAIRN_ASSIGN_OR_RETURN(shared, TensorsNamed(name));
        }
        TensorSpec spec = tensor.spec;
        spec.shape[0] = map_->size;
        effects.added.push_back(std::move(spec));
        effects.effects[name] = MakeAlignedEffect(map_, shared, m);
      }
      effects.digest = DigestOfRows(m);
      auto aligned = std::make_shared<ModelSource>(*models_[m].source);
      CAIRN_RETURN_IF_ERROR(aligned->AddEffects(std::move(effects)));
      result_.models[models_[m].name] = std::move(aligned);
      result_.vocab_size = map_->size;
    }
    return absl::OkStatus();
  }

  // A head that a model ties to its embeddings is these.
  absl::StatusOr<std::shared_ptr<const VocabularyTensors>> TensorsNamed(
      const std::string& name) const {
    auto found = std::make_shared<VocabularyTensors>();
    std::vector<int64_t> shape;
    for (const Opened& model : models_) {
      const SourceTensor* tensor = model.source->Find(name);
      if (tensor == nullptr && name == "lm_head.weight" &&
          TiesEmbeddings(model.source->config_json())) {
        tensor = model.source->Find("model.embed_tokens.weight");
      }
      if (tensor != nullptr) {
        std::vector<int64_t> row(tensor->spec.shape.begin() + 1,
                                 tensor->spec.shape.end());
        if (!found->models.empty() && !shape.empty() && row != shape) {
          return Refuse(
              model, absl::StrCat("has rows of ", ShapeText(row), " in ", name,
                                  ", others ", ShapeText(shape)));
        }
        shape = std::move(row);
      }
      if (tensor == nullptr && lenders_.contains(found->models.size())) {
        return Refuse(model, absl::StrCat("has no tensor ", name,
                                          ", and tokens take rows of it"));
      }
      found->models.push_back(model.source);
      found->tensors.push_back(tensor);
    }
    return std::shared_ptr<const VocabularyTensors>(std::move(found));
  }

  // The tokenizer's own files, where they say something else now.
  absl::Status KeepFiles(const TokenizerFile& common) {
    const Opened& from = models_[from_];
    if (common.tokens() == from.tokenizer->tokens() &&
        recipe_.tokenizer_source != "union") {
      return absl::OkStatus();
    }
    result_.files[kTokenizer] = common.Text();
    CAIRN_ASSIGN_OR_RETURN(const std::string config,
                           ReadTokenizer(*from.source, kTokenizerConfig));
    if (!config.empty()) {
      result_.files[kTokenizerConfig] = common.ConfigText(config);
    }
    return absl::OkStatus();
  }

  const Recipe& recipe_;
  std::vector<Opened> models_;  // the base first, if there is one
  size_t from_ = 0;
  std::set<size_t> lenders_;  // models that rules take rows of
  std::shared_ptr<const VocabularyMap> map_;
  AlignedModels result_;
};

}  // namespace

absl::StatusOr<AlignedModels> AlignVocabularies(const Recipe& recipe,
                                                const SourceOpener& open) {
  return Aligner(recipe).Align(open);
}

}  // namespace cairn
