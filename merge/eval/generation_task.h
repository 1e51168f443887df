#ifndef CAIRN_MERGE_EVAL_GENERATION_TASK_H_
#define CAIRN_MERGE_EVAL_GENERATION_TASK_H_

#include <map>
#include <string>
#include <vector>

#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// What the model writes after a context, greedily, until it ends the text: an
// item is right when that is the target, token by token.
class GenerationTask final : public Task {
 public:
  // New tokens at most where an item does not say, as in
  // lm-evaluation-harness; fewer when the model takes no more.
  static constexpr int64_t kNewTokensMax = 256;

  explicit GenerationTask(std::vector<GenerationItem> items)
      : items_(std::move(items)) {}

  int64_t size() const override { return static_cast<int64_t>(items_.size()); }
  absl::Status CheckFits(const Model& model) const override;
  int64_t Cost(int64_t item) const override;
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override;
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override;

 private:
  const std::vector<GenerationItem> items_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_GENERATION_TASK_H_
