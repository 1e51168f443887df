#ifndef CAIRN_MERGE_EVAL_CONTINUATION_H_
#define CAIRN_MERGE_EVAL_CONTINUATION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "merge/eval/items.h"
#include "merge/model/model.h"

namespace cairn {

// Sum of log p(ids[i] | ids[0, i)) over i in [first, ids.size()), where
// 1 <= first. The model's input is all ids but the last. Log-softmax is in
// F32, the sum in double. DATA_LOSS with NON_FINITE when the model's numbers
// overflow.
absl::StatusOr<double> ScoreContinuation(const Model& model,
                                         absl::Span<const int64_t> ids,
                                         int64_t first);

// Whether the model can score `ids`, a part of an item's `field`: UNSUPPORTED
// past its vocabulary.
absl::Status CheckVocabulary(const Model& model, const ItemHead& item,
                             absl::string_view field,
                             absl::Span<const int64_t> ids);
// Likewise for the length of an input.
absl::Status CheckInputLength(const Model& model, const ItemHead& item,
                              int64_t tokens);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_CONTINUATION_H_
