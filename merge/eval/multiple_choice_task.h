#ifndef CAIRN_MERGE_EVAL_MULTIPLE_CHOICE_TASK_H_
#define CAIRN_MERGE_EVAL_MULTIPLE_CHOICE_TASK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// Which of some continuations the model finds most likely, as
// lm-evaluation-harness decides it: by log-probability (acc), divided by the
// characters (acc_norm) or bytes (acc_bytes) of the choice's text, or less its
// log-probability without the context (acc_mutual_info). Ties go to the first.
class MultipleChoiceTask final : public Task {
 public:
  // `prefix_ids` as in SuiteDescription. Refuses a metric by characters or
  // bytes when an item's choices have no text, or an empty one.
  static absl::StatusOr<std::unique_ptr<Task>> Create(
      std::vector<MultipleChoiceItem> items, absl::string_view metric,
      std::optional<std::vector<int64_t>> prefix_ids);

  int64_t size() const override;
  absl::Status CheckFits(const Model& model) const override;
  int64_t Cost(int64_t item) const override;
  absl::StatusOr<ItemScore> Score(const Model& model,
                                  const at::Tensor& prepared,
                                  int64_t item) const override;
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const override;

 private:
  enum class Ranking { kPlain, kCharacters, kBytes, kMutualInformation };

  MultipleChoiceTask(std::vector<MultipleChoiceItem> items,
                     absl::string_view metric,
                     std::optional<std::vector<int64_t>> prefix_ids);

  const std::vector<int64_t>& PrefixOf(const LanguageModel& model) const;
  absl::StatusOr<std::vector<double>> ScoreChoices(
      const LanguageModel& model, const MultipleChoiceItem& item,
      const std::vector<int64_t>& context) const;
  // The choice that wins, from the log-probabilities of all.
  size_t Best(Ranking ranking, const MultipleChoiceItem& item,
              const std::vector<double>& scores,
              const std::vector<double>& unconditional) const;

  const std::vector<MultipleChoiceItem> items_;
  const std::string metric_;
  const Ranking ranking_;
  const std::optional<std::vector<int64_t>> prefix_ids_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_MULTIPLE_CHOICE_TASK_H_
