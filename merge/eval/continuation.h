#ifndef CAIRN_MERGE_EVAL_CONTINUATION_H_
#define CAIRN_MERGE_EVAL_CONTINUATION_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "merge/eval/items.h"
#include "merge/model/model.h"

namespace cairn {

using TokenIds = std::vector<int64_t>;

// The three below score with log-softmax in F32 and sums in double, whatever
// the arithmetic of the model. DATA_LOSS with NON_FINITE when the model's
// numbers overflow. With an encoder the context goes there, and a
// continuation's input is the decoder's first token and all ids but the last.

// Sum of log p(ids[i] | ids[0, i)) over i >= 1; ids has at least 2.
absl::StatusOr<double> ScoreText(const LanguageModel& model,
                                 absl::Span<const int64_t> ids);

// Log-probability of each continuation after the context; none is empty. The
// context is read once; each score is that of the continuation alone.
absl::StatusOr<std::vector<double>> ScoreContinuations(
    const LanguageModel& model, const TokenIds& context,
    const std::vector<TokenIds>& continuations);

struct Generated {
  TokenIds ids;            // without the token that ends the text
  double logprob_sum = 0;  // of ids
};

// The most likely token after the context, and again after that, until one
// ends the text, there are `new_tokens_max`, or `is_over` says so of what there
// is. Ties go to the smallest id.
absl::StatusOr<Generated> GenerateGreedily(
    const LanguageModel& model, const TokenIds& context, int64_t new_tokens_max,
    const std::function<bool(const TokenIds&)>& is_over = nullptr);

// int64 tensor [ids.size()].
at::Tensor IdTensor(absl::Span<const int64_t> ids);

// The model as a language model; UNSUPPORTED naming it and `kind` when it is
// none.
absl::StatusOr<const LanguageModel*> RequireLanguage(const Model& model,
                                                     absl::string_view kind);

// UNSUPPORTED: the model has no head for a kind of suite, which takes `needed`.
absl::Status NoHead(const Model& model, absl::string_view kind,
                    absl::string_view needed);

// Whether a model can take `ids`, a part of an item's `field`: UNSUPPORTED
// past its vocabulary.
absl::Status CheckVocabulary(const TextLimits& limits, const ItemHead& item,
                             absl::string_view field,
                             absl::Span<const int64_t> ids);
// Likewise for the length of an input.
absl::Status CheckInputLength(const TextLimits& limits, const ItemHead& item,
                              int64_t tokens);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_CONTINUATION_H_
