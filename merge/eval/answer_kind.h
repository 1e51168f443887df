#ifndef CAIRN_MERGE_EVAL_ANSWER_KIND_H_
#define CAIRN_MERGE_EVAL_ANSWER_KIND_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "merge/eval/items.h"
#include "merge/eval/task.h"

namespace cairn {

// What a model with a head over a whole text or image is asked for: which of
// some classes it is of, or a number.
//
// Numbers are judged by r2, the share of the targets' variance over the split
// that is explained: 1 - mean((y - prediction)^2) / variance(y). It is a mean
// of points of items, as accuracy is, so that one margin suits every scale.
class AnswerKind {
 public:
  // Kind `classification`.
  static AnswerKind Classes() { return AnswerKind(false, 1); }
  // Kind `regression`. DATA_LOSS with MALFORMED_FILE when the targets are all
  // the same: nothing is to be explained.
  static absl::StatusOr<AnswerKind> Numbers(
      absl::Span<const ClassificationItem> items);

  // By suite.yaml.
  const char* kind() const {
    return is_number_ ? "regression" : "classification";
  }
  // Whether a head of so many outputs answers an item: UNSUPPORTED otherwise.
  absl::Status Check(const ClassificationItem& item, int64_t outputs) const;
  // The score of an item from the head's outputs, F32.
  absl::StatusOr<ItemScore> Score(const ClassificationItem& item,
                                  const at::Tensor& outputs) const;
  // acc; or r2, mse and mae.
  std::map<std::string, double> Metrics(
      absl::Span<const ItemScore> scores) const;

 private:
  AnswerKind(bool is_number, double variance)
      : is_number_(is_number), variance_(variance) {}

  bool is_number_;
  double variance_;  // of the targets
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_ANSWER_KIND_H_
