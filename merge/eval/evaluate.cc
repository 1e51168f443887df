#include "merge/eval/evaluate.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/tensor/compute.h"

namespace cairn {
namespace {

// So that no thread is left alone with a long item at the end.
std::vector<int64_t> LongestFirst(const Task& task) {
  std::vector<int64_t> order(static_cast<size_t>(task.size()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return task.Cost(a) > task.Cost(b);
  });
  return order;
}

}  // namespace

absl::StatusOr<SplitReport> EvaluateTask(const Model& model, const Suite& suite,
                                         absl::string_view split,
                                         const Task& task,
                                         const EvaluateOptions& options) {
  CAIRN_RETURN_IF_ERROR(task.CheckFits(model));
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor prepared, task.Prepare(model));
  SplitReport report;
  report.items.resize(static_cast<size_t>(task.size()));
  const std::vector<int64_t> order = LongestFirst(task);
  std::atomic<int64_t> done = 0;
  CAIRN_RETURN_IF_ERROR(
      ParallelFor(options.threads, task.size(), [&](int64_t i) -> absl::Status {
        const int64_t item = order[static_cast<size_t>(i)];
        CAIRN_ASSIGN_OR_RETURN(report.items[static_cast<size_t>(item)],
                               task.Score(model, prepared, item));
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
                                          const EvaluateOptions& options,
                                          const FileMap& model_files) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Task> task,
                         OpenTask(suite, split, model, model_files));
  return EvaluateTask(model, suite, split, *task, options);
}

}  // namespace cairn
