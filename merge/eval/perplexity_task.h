#ifndef CAIRN_MERGE_EVAL_PERPLEXITY_TASK_H_
#define CAIRN_MERGE_EVAL_PERPLEXITY_TASK_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// How well token sequences are predicted. perplexity is exp of the mean
// negative log-probability of a token over all items; with the items' text
// also by byte and by word, as lm-evaluation-harness has them.
class PerplexityTask final : public Task {
 public:
  // Refuses a metric by bytes or words when an item has no text.
  static absl::StatusOr<std::unique_ptr<Task>> Create(
      std::vector<PerplexityItem> items, absl::string_view metric);

  int64_t size() const override;
  absl::Status CheckFits(const Model& model) const override;
  int64_t Cost(int64_t item) const override;
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override;
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override;

 private:
  explicit PerplexityTask(std::vector<PerplexityItem> items);

  const std::vector<PerplexityItem> items_;
  // Sizes of all items' text; 0 when one has none.
  int64_t text_bytes_ = 0;
  int64_t text_words_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_PERPLEXITY_TASK_H_
