#ifndef CAIRN_MERGE_EVAL_TASK_H_
#define CAIRN_MERGE_EVAL_TASK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "merge/eval/suite.h"
#include "merge/model/model.h"

namespace cairn {

// What an item's scoring gave.
struct ItemScore {
  std::string id;
  std::string group;
  // Perplexity: of the scored tokens; multiple choice: of the labelled choice.
  double logprob_sum = 0;
  int64_t tokens = 0;
  // Multiple choice: of every choice.
  std::vector<double> choice_logprobs;
  // Whether the item was right by the suite's metric, for kinds that have
  // right and wrong.
  std::optional<bool> is_correct;
};

// One split of a suite, read and checked. Immutable and thread-safe.
//
// Errors name file, line, item and field. DATA_LOSS with MALFORMED_FILE is a
// fault of the suite in itself, UNIMPLEMENTED with UNSUPPORTED a sound suite or
// item that we, or this model, cannot score.
class Task {
 public:
  virtual ~Task() = default;

  virtual int64_t size() const = 0;
  // Whether the model can score every item: vocabulary and length of input.
  virtual absl::Status CheckFits(const Model& model) const = 0;
  // Scores one item; the result depends on the item and the model alone. The
  // task fits the model.
  virtual absl::StatusOr<ItemScore> Score(const Model& model,
                                          int64_t item) const = 0;
  // Metrics over the scores of all items, in order; the suite's is one.
  virtual std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const = 0;
};

// Reads a split, which the suite has. `architecture` is the model's, to say
// what has no head for the suite's kind. NOT_FOUND when the split's file is
// not there.
absl::StatusOr<std::unique_ptr<Task>> OpenTask(const Suite& suite,
                                               absl::string_view split,
                                               absl::string_view architecture);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TASK_H_
