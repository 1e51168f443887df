#include "merge/eval/multiple_choice_task.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/eval/text_size.h"

namespace cairn {
namespace {

absl::Status CheckTexts(const MultipleChoiceItem& item,
                        absl::string_view metric) {
  const bool has_empty =
      std::any_of(item.texts.begin(), item.texts.end(),
                  [](const std::string& text) { return text.empty(); });
  if (!item.texts.empty() && !has_empty) return absl::OkStatus();
  return DamagedItem(item, absl::StrCat("`choices` should give the text of "
                                        "each choice; metric ",
                                        metric, " divides by its length"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> MultipleChoiceTask::Create(
    std::vector<MultipleChoiceItem> items, absl::string_view metric,
    std::optional<std::vector<int64_t>> prefix_ids) {
  if (metric == "acc_norm" || metric == "acc_bytes") {
    for (const MultipleChoiceItem& item : items) {
      CAIRN_RETURN_IF_ERROR(CheckTexts(item, metric));
    }
  }
  return std::unique_ptr<Task>(
      new MultipleChoiceTask(std::move(items), metric, std::move(prefix_ids)));
}

MultipleChoiceTask::MultipleChoiceTask(
    std::vector<MultipleChoiceItem> items, absl::string_view metric,
    std::optional<std::vector<int64_t>> prefix_ids)
    : items_(std::move(items)),
      metric_(metric),
      ranking_(metric == "acc_norm"          ? Ranking::kCharacters
               : metric == "acc_bytes"       ? Ranking::kBytes
               : metric == "acc_mutual_info" ? Ranking::kMutualInformation
                                             : Ranking::kPlain),
      prefix_ids_(std::move(prefix_ids)) {}

int64_t MultipleChoiceTask::size() const {
  return static_cast<int64_t>(items_.size());
}

const std::vector<int64_t>& MultipleChoiceTask::PrefixOf(
    const LanguageModel& model) const {
  return prefix_ids_.has_value() ? *prefix_ids_ : model.traits().prefix_ids;
}

int64_t MultipleChoiceTask::Cost(int64_t item) const {
  const MultipleChoiceItem& it = items_[static_cast<size_t>(item)];
  size_t tokens = it.context.size();
  for (const std::vector<int64_t>& choice : it.choices) tokens += choice.size();
  return static_cast<int64_t>(tokens);
}

absl::Status MultipleChoiceTask::CheckFits(const Model& model) const {
  CAIRN_ASSIGN_OR_RETURN(const LanguageModel* language,
                         RequireLanguage(model, "multiple_choice"));
  const TextLimits& limits = language->traits().limits;
  int64_t prefix = 0;
  if (ranking_ == Ranking::kMutualInformation) {
    prefix = static_cast<int64_t>(PrefixOf(*language).size());
    if (prefix == 0) {
      return ReasonedError(
          absl::StatusCode::kUnimplemented, "UNSUPPORTED",
          "config.json names no bos_token_id or eos_token_id; suite.yaml "
          "should give `prefix_ids` for acc_mutual_info");
    }
    CAIRN_RETURN_IF_ERROR(CheckVocabulary(limits, {"", "", "suite.yaml"},
                                          "prefix_ids", PrefixOf(*language)));
  }
  for (const MultipleChoiceItem& item : items_) {
    CAIRN_RETURN_IF_ERROR(
        CheckVocabulary(limits, item, "context_ids", item.context));
    const int64_t context =
        std::max(static_cast<int64_t>(item.context.size()), prefix);
    for (const std::vector<int64_t>& choice : item.choices) {
      CAIRN_RETURN_IF_ERROR(
          CheckVocabulary(limits, item, "choices_ids", choice));
      CAIRN_RETURN_IF_ERROR(CheckInputLength(
          limits, item, context + static_cast<int64_t>(choice.size()) - 1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> MultipleChoiceTask::ScoreChoices(
    const LanguageModel& model, const MultipleChoiceItem& item,
    const std::vector<int64_t>& context) const {
  absl::StatusOr<std::vector<double>> scores =
      ScoreContinuations(model, context, item.choices);
  if (!scores.ok()) return Annotate(scores.status(), item.where);
  return scores;
}

size_t MultipleChoiceTask::Best(
    Ranking ranking, const MultipleChoiceItem& item,
    const std::vector<double>& scores,
    const std::vector<double>& unconditional) const {
  std::vector<double> ranked = scores;
  for (size_t i = 0; i < ranked.size(); ++i) {
    switch (ranking) {
      case Ranking::kCharacters:
        ranked[i] /= static_cast<double>(CountCharacters(item.texts[i]));
        break;
      case Ranking::kBytes:
        ranked[i] /= static_cast<double>(item.texts[i].size());
        break;
      case Ranking::kMutualInformation:
        ranked[i] -= unconditional[i];
        break;
      case Ranking::kPlain:
        break;
    }
  }
  return static_cast<size_t>(std::max_element(ranked.begin(), ranked.end()) -
                             ranked.begin());
}

absl::StatusOr<ItemScore> MultipleChoiceTask::Score(const Model& model,
                                                    const at::Tensor&,
                                                    int64_t item) const {
  const LanguageModel* language = model.language();
  const MultipleChoiceItem& it = items_[static_cast<size_t>(item)];
  const size_t label = static_cast<size_t>(it.label);
  ItemScore score;
  score.id = it.id;
  score.group = it.group;
  CAIRN_ASSIGN_OR_RETURN(score.choice_logprobs,
                         ScoreChoices(*language, it, it.context));
  std::vector<double> unconditional;
  if (ranking_ == Ranking::kMutualInformation) {
    CAIRN_ASSIGN_OR_RETURN(unconditional,
                           ScoreChoices(*language, it, PrefixOf(*language)));
  }
  score.logprob_sum = score.choice_logprobs[label];
  score.tokens = static_cast<int64_t>(it.choices[label].size());
  score.is_correct =
      Best(ranking_, it, score.choice_logprobs, unconditional) == label;
  return score;
}

std::map<std::string, double> MultipleChoiceTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  return {{metric_, Accuracy(scores)}};
}

}  // namespace cairn
