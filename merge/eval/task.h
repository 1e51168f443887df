#ifndef CAIRN_MERGE_EVAL_TASK_H_
#define CAIRN_MERGE_EVAL_TASK_H_

#include <ATen/core/Tensor.h>

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
  // Perplexity: of the scored tokens; multiple choice and classification: of
  // the labelled choice; generation: of the generated tokens.
  double logprob_sum = 0;
  int64_t tokens = 0;
  // Multiple choice: of every choice; classification: of every class.
  std::vector<double> choice_logprobs;
  // Whether the item was right by the suite's metric, for kinds that have
  // right and wrong.
  std::optional<bool> is_correct;
  // Generation; the text, and what the filters leave of it, where texts are
  // compared.
  std::optional<std::vector<int64_t>> generated_ids;
  std::optional<std::string> generated_text;
  std::optional<std::string> filtered_text;
  // Regression: what the model says, and points whose mean is the metric.
  std::optional<double> prediction;
  std::optional<double> points;
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
  // Whether the model can score every item: its head, vocabulary, length of
  // input, ...
  virtual absl::Status CheckFits(const Model& model) const = 0;
  // What scoring an item takes, in tokens or the like: long ones go first.
  virtual int64_t Cost(int64_t item) const = 0;
  // What the items share, computed once for a model that the task fits.
  virtual absl::StatusOr<at::Tensor> Prepare(const Model&) const {
    return at::Tensor();
  }
  // Scores one item; the result depends on the item and the model alone.
  // `prepared` is Prepare()'s for this model.
  virtual absl::StatusOr<ItemScore> Score(const Model& model,
                                          const at::Tensor& prepared,
                                          int64_t item) const = 0;
  // Metrics over the scores of all items, in order; the suite's is one.
  virtual std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const = 0;
};

// Reads a split, which the suite has, for models like `model`: UNSUPPORTED
// when it has no head for the suite's kind. NOT_FOUND when a file that the
// suite names is not there. `model_files` are where the model comes from: a
// suite that compares texts needs its tokenizer.
absl::StatusOr<std::unique_ptr<Task>> OpenTask(const Suite& suite,
                                               absl::string_view split,
                                               const Model& model,
                                               const FileMap& model_files = {});

// The share of scores that are right.
double Accuracy(absl::Span<const ItemScore> scores);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TASK_H_
