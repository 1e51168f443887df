#ifndef CAIRN_MERGE_EVAL_EVALUATE_H_
#define CAIRN_MERGE_EVAL_EVALUATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/eval/suite.h"
#include "merge/eval/task.h"
#include "merge/model/model.h"

namespace cairn {

struct EvaluateOptions {
  // Items scored side by side; changes no score.
  int threads = 1;
  // Called after each item with the number done, from the thread that did it.
  std::function<void(int64_t done, int64_t total)> progress;
};

// Scores of one model on one split.
struct SplitReport {
  std::string suite;  // by suite.yaml
  std::string kind;
  std::string split;
  std::string metric;
  double value = 0;  // by the metric
  int64_t tokens = 0;
  std::map<std::string, double> metrics;
  std::vector<ItemScore> items;  // in the order of the file
};

// Scores a task that was opened from `suite` and `split`. Every item is
// checked against the model before the first is scored. The report depends on
// the model and the task only, to the last bit. Errors as Task's, and DATA_LOSS
// with NON_FINITE for a model whose numbers overflow.
absl::StatusOr<SplitReport> EvaluateTask(const Model& model, const Suite& suite,
                                         absl::string_view split,
                                         const Task& task,
                                         const EvaluateOptions& options);

// Opens the task of a split and scores it.
absl::StatusOr<SplitReport> EvaluateSuite(const Model& model,
                                          const Suite& suite,
                                          absl::string_view split,
                                          const EvaluateOptions& options,
                                          const FileMap& model_files = {});

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_EVALUATE_H_
