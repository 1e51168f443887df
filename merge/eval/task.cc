#include "merge/eval/task.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/answer_kind.h"
#include "merge/eval/classification_task.h"
#include "merge/eval/continuation.h"
#include "merge/eval/generation_task.h"
#include "merge/eval/image_task.h"
#include "merge/eval/items.h"
#include "merge/eval/multiple_choice_task.h"
#include "merge/eval/perplexity_task.h"
#include "merge/eval/text_items.h"
#include "merge/eval/token_text.h"

namespace cairn {
namespace {

absl::StatusOr<std::unique_ptr<Task>> OpenLanguageTask(
    const SuiteDescription& about, const ByteSource& file,
    const std::string& path, const Model& model, const FileMap& model_files) {
  CAIRN_ASSIGN_OR_RETURN(const LanguageModel* language,
                         RequireLanguage(model, about.kind));
  if (about.kind == "perplexity") {
    CAIRN_ASSIGN_OR_RETURN(std::vector<PerplexityItem> items,
                           ReadPerplexityItems(file, path));
    CAIRN_RETURN_IF_ERROR(TokeniseItems(about, *language, model_files, items));
    return PerplexityTask::Create(std::move(items), about.metric);
  }
  if (about.kind == "generation") {
    CAIRN_ASSIGN_OR_RETURN(std::vector<GenerationItem> items,
                           ReadGenerationItems(file, path));
    CAIRN_RETURN_IF_ERROR(TokeniseItems(about, *language, model_files, items));
    std::shared_ptr<const TokenText> text;
    if (about.text_rules.is_set()) {
      CAIRN_ASSIGN_OR_RETURN(TokenText opened, TokenText::Open(model_files));
      text = std::make_shared<const TokenText>(std::move(opened));
    }
    return GenerationTask::Create(std::move(items), about.text_rules,
                                  std::move(text));
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<MultipleChoiceItem> items,
                         ReadMultipleChoiceItems(file, path));
  CAIRN_RETURN_IF_ERROR(TokeniseItems(about, *language, model_files, items));
  return MultipleChoiceTask::Create(std::move(items), about.metric,
                                    about.prefix_ids);
}

absl::StatusOr<std::unique_ptr<Task>> OpenClassified(const Suite& suite,
                                                     const ByteSource& file,
                                                     const std::string& path,
                                                     const Model& model) {
  const std::string& kind = suite.description.kind;
  if (model.language() != nullptr) {
    return NoHead(model, kind, "a model with a classifier");
  }
  const bool is_number = kind == "regression";
  CAIRN_ASSIGN_OR_RETURN(auto items,
                         is_number ? ReadRegressionItems(file, path)
                                   : ReadClassificationItems(file, path));
  AnswerKind answer = AnswerKind::Classes();
  if (is_number) {
    CAIRN_ASSIGN_OR_RETURN(answer, AnswerKind::Numbers(items));
  }
  if (model.text_classifier() != nullptr) {
    return std::make_unique<ClassificationTask>(std::move(items), answer);
  }
  return ImageTask::Create(suite, std::move(items), answer);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> OpenTask(const Suite& suite,
                                               absl::string_view split,
                                               const Model& model,
                                               const FileMap& model_files) {
  const SuiteDescription& about = suite.description;
  const std::string& path = about.splits.find(split)->second;
  const auto file = suite.files.find(path);
  if (file == suite.files.end()) {
    return absl::NotFoundError(
        absl::StrCat("suite ", about.name, " has no file ", path,
                     ", which suite.yaml names for split ", split));
  }
  if (about.kind == "classification" || about.kind == "regression") {
    return OpenClassified(suite, *file->second, path, model);
  }
  return OpenLanguageTask(about, *file->second, path, model, model_files);
}

double Accuracy(absl::Span<const ItemScore> scores) {
  int64_t correct = 0;
  for (const ItemScore& score : scores) correct += *score.is_correct ? 1 : 0;
  return static_cast<double>(correct) / static_cast<double>(scores.size());
}

}  // namespace cairn
