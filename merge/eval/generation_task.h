#ifndef CAIRN_MERGE_EVAL_GENERATION_TASK_H_
#define CAIRN_MERGE_EVAL_GENERATION_TASK_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/suite/text_rules.h"
#include "merge/eval/items.h"
#include "merge/eval/task.h"
#include "merge/eval/token_text.h"

namespace cairn {

// What the model writes after a context, greedily, until it ends the text: an
// item is right when that is the target, token by token, or, where the suite
// has rules for texts, when its text is one of the item's by these.
class GenerationTask final : public Task {
 public:
  // New tokens at most where an item does not say, as in
  // lm-evaluation-harness; fewer when the model takes no more.
  static constexpr int64_t kNewTokensMax = 256;

  // `text` is not null where `rules` are set. Refuses items whose target is
  // of the other sort.
  static absl::StatusOr<std::unique_ptr<Task>> Create(
      std::vector<GenerationItem> items, TextRules rules,
      std::shared_ptr<const TokenText> text);

  int64_t size() const override { return static_cast<int64_t>(items_.size()); }
  absl::Status CheckFits(const Model& model) const override;
  int64_t Cost(int64_t item) const override;
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override;
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override;

 private:
  GenerationTask(std::vector<GenerationItem> items, TextRules rules,
                 std::shared_ptr<const TokenText> text)
      : items_(std::move(items)),
        rules_(std::move(rules)),
        text_(std::move(text)) {}
  void Compare(const GenerationItem& item, ItemScore& score) const;

  const std::vector<GenerationItem> items_;
  const TextRules rules_;
  const std::shared_ptr<const TokenText> text_;  // null: ids are compared
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_GENERATION_TASK_H_
