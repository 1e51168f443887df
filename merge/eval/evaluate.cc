#include "merge/eval/evaluate.h"

#include <atomic>
#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/tensor/compute.h"

namespace cairn {

absl::StatusOr<SplitReport> EvaluateTask(const Model& model, const Suite& suite,
                                         absl::string_view split,
                                         const Task& task,
                                         const EvaluateOptions& options) {
  CAIRN_RETURN_IF_ERROR(task.CheckFits(model));
  SplitReport report;
  report.items.resize(static_cast<size_t>(task.size()));
  std::atomic<int64_t> done = 0;
  CAIRN_RETURN_IF_ERROR(
      ParallelFor(options.threads, task.size(), [&](int64_t i) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(report.items[static_cast<size_t>(i)],
                               task.Score(model, i));
        if (options.progress) options.progress(++done, task.size());
        return absl::OkStatus();
      }));
  report.suite = suite.description.name;
  report.kind = suite.description.kind;
  report.split = std::string(split);
  report.metric = suite.description.metric;
  report.metrics = task.Metrics(report.items);
  report.value = report.metrics.at(report.metric);
  for (const ItemScore& item : report.items) report.tokens += item.tokens;
  return report;
}

absl::StatusOr<SplitReport> EvaluateSuite(const Model& model,
                                          const Suite& suite,
                                          absl::string_view split,
                                          const EvaluateOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Task> task,
                         OpenTask(suite, split, model.architecture()));
  return EvaluateTask(model, suite, split, *task, options);
}

}  // namespace cairn
