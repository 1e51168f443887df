#ifndef CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_
#define CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "merge/eval/answer_kind.h"
#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// The class, or the number, that a model finds for a text. Ties go to the first
// class.
class ClassificationTask final : public Task {
 public:
  ClassificationTask(std::vector<ClassificationItem> items, AnswerKind answer)
      : items_(std::move(items)), answer_(answer) {}

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
  const AnswerKind answer_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_CLASSIFICATION_TASK_H_
