#include "merge/eval/task.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/classification_task.h"
#include "merge/eval/continuation.h"
#include "merge/eval/generation_task.h"
#include "merge/eval/image_task.h"
#include "merge/eval/items.h"
#include "merge/eval/multiple_choice_task.h"
#include "merge/eval/perplexity_task.h"

namespace cairn {
namespace {

absl::StatusOr<std::unique_ptr<Task>> OpenLanguageTask(
    const SuiteDescription& about, const ByteSource& file,
    const std::string& path, const Model& model) {
  CAIRN_RETURN_IF_ERROR(RequireLanguage(model, about.kind).status());
  if (about.kind == "perplexity") {
    CAIRN_ASSIGN_OR_RETURN(std::vector<PerplexityItem> items,
                           ReadPerplexityItems(file, path));
    return PerplexityTask::Create(std::move(items), about.metric);
  }
  if (about.kind == "generation") {
    CAIRN_ASSIGN_OR_RETURN(std::vector<GenerationItem> items,
                           ReadGenerationItems(file, path));
    return std::make_unique<GenerationTask>(std::move(items));
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<MultipleChoiceItem> items,
                         ReadMultipleChoiceItems(file, path));
  return MultipleChoiceTask::Create(std::move(items), about.metric,
                                    about.prefix_ids);
}

absl::StatusOr<std::unique_ptr<Task>> OpenClassification(
    const Suite& suite, const ByteSource& file, const std::string& path,
    const Model& model) {
  if (model.language() != nullptr) {
    return NoHead(model, "classification", "a model with a classifier");
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<ClassificationItem> items,
                         ReadClassificationItems(file, path));
  if (model.text_classifier() != nullptr) {
    return std::make_unique<ClassificationTask>(std::move(items));
  }
  return ImageTask::Create(suite, std::move(items));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> OpenTask(const Suite& suite,
                                               absl::string_view split,
                                               const Model& model) {
  const SuiteDescription& about = suite.description;
  const std::string& path = about.splits.find(split)->second;
  const auto file = suite.files.find(path);
  if (file == suite.files.end()) {
    return absl::NotFoundError(
        absl::StrCat("suite ", about.name, " has no file ", path,
                     ", which suite.yaml names for split ", split));
  }
  if (about.kind == "classification") {
    return OpenClassification(suite, *file->second, path, model);
  }
  return OpenLanguageTask(about, *file->second, path, model);
}

double Accuracy(absl::Span<const ItemScore> scores) {
  int64_t correct = 0;
  for (const ItemScore& score : scores) correct += *score.is_correct ? 1 : 0;
  return static_cast<double>(correct) / static_cast<double>(scores.size());
}

}  // namespace cairn
