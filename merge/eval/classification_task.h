#ifndef CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_
#define CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_

#include <map>
#include <string>
#include <vector>

#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// The class that a model finds for a text. Ties go to the first class.
class ClassificationTask final : public Task {
 public:
  explicit ClassificationTask(std::vector<ClassificationItem> items)
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
  const std::vector<ClassificationItem> items_;
};

// UNSUPPORTED when the label is past a head of `labels` classes.
absl::Status CheckLabel(const ClassificationItem& item, int64_t labels);

// The score of an item from the logits [classes] of its classes, F32.
absl::StatusOr<ItemScore> ScoreClasses(const ClassificationItem& item,
                                       const at::Tensor& logits);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_
