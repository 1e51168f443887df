#include "merge/eval/task.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/items.h"
#include "merge/eval/multiple_choice_task.h"
#include "merge/eval/perplexity_task.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<Task>> OpenTask(const Suite& suite,
                                               absl::string_view split,
                                               absl::string_view architecture) {
  const SuiteDescription& about = suite.description;
  if (about.kind != "perplexity" && about.kind != "multiple_choice") {
    return ReasonedError(
        absl::StatusCode::kUnimplemented, "UNSUPPORTED",
        absl::StrCat("suite ", about.name, " is of kind ", about.kind,
                     ", which cannot be scored with ", architecture,
                     "; perplexity and multiple_choice can"));
  }
  const std::string& path = about.splits.find(split)->second;
  const auto file = suite.files.find(path);
  if (file == suite.files.end()) {
    return absl::NotFoundError(
        absl::StrCat("suite ", about.name, " has no file ", path,
                     ", which suite.yaml names for split ", split));
  }
  if (about.kind == "perplexity") {
    CAIRN_ASSIGN_OR_RETURN(std::vector<PerplexityItem> items,
                           ReadPerplexityItems(*file->second, path));
    return PerplexityTask::Create(std::move(items), about.metric);
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<MultipleChoiceItem> items,
                         ReadMultipleChoiceItems(*file->second, path));
  return MultipleChoiceTask::Create(std::move(items), about.metric,
                                    about.prefix_ids);
}

}  // namespace cairn
