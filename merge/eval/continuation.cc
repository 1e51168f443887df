#include "merge/eval/continuation.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/kernel/row_kernels.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

// Positions whose logits are in memory at a time. Fewer would have the head
// read over and over, and beyond 32 MiB the system takes memory back, whose
// pages are slow to get again.
int64_t RowsAtATime(const LanguageModel& model) {
  constexpr int64_t kBytes = 31 << 20;
  const int64_t row = model.vocab_size() * static_cast<int64_t>(sizeof(float));
  return std::clamp<int64_t>(kBytes / row, 128, 512);
}

absl::Status Overflow() {
  return ReasonedError(absl::StatusCode::kDataLoss, "NON_FINITE",
                       "the model's log-probabilities are not finite: its "
                       "weights are too large or damaged");
}

// Sum over the rows of logits [rows, vocab] of the log-probability of that
// row's target.
double SumPicked(const at::Tensor& logits, const at::Tensor& targets) {
  if (!logits.is_cpu()) {
    return at::log_softmax(logits, -1)
        .gather(-1, targets.unsqueeze(-1))
        .to(at::kDouble)
        .sum()
        .item<double>();
  }
  const at::Tensor packed = logits.contiguous();
  const int64_t vocab = packed.size(1);
  const float* row = packed.data_ptr<float>();
  const int64_t* target = targets.data_ptr<int64_t>();
  double sum = 0;
  for (int64_t i = 0; i < packed.size(0); ++i, row += vocab) {
    sum += row[target[i]] - LogSumExp(row, vocab);
  }
  return sum;
}

// Sum over the rows of `hidden` of the log-probability of that row's target.
absl::StatusOr<double> SumLogprobs(const LanguageModel& model,
                                   const at::Tensor& hidden,
                                   const at::Tensor& targets) {
  const int64_t step = RowsAtATime(model);
  double sum = 0;
  for (int64_t row = 0; row < hidden.size(0); row += step) {
    const int64_t rows = std::min(step, hidden.size(0) - row);
    CAIRN_ASSIGN_OR_RETURN(const at::Tensor logits,
                           model.Logits(hidden.narrow(0, row, rows)));
    sum += SumPicked(logits.to(at::kFloat), targets.narrow(0, row, rows));
  }
  if (!std::isfinite(sum)) return Overflow();
  return sum;
}

// A text that goes on: what was read so far, and the hidden state from which
// the next token is predicted.
class Reading {
 public:
  static absl::StatusOr<Reading> Begin(const LanguageModel& model,
                                       const TokenIds& context) {
    Reading reading(model);
    if (!model.traits().has_encoder) {
      CAIRN_RETURN_IF_ERROR(reading.Read(context).status());
      return reading;
    }
    CAIRN_ASSIGN_OR_RETURN(reading.memory_,
                           model.Encode(IdTensor(context).unsqueeze(0)));
    CAIRN_RETURN_IF_ERROR(
        reading.Read({model.traits().decoder_start_id}).status());
    return reading;
  }

  // Hidden state [1, hidden] that predicts the next token.
  const at::Tensor& next() const { return next_; }

  // Hidden states [ids, hidden] after each of the ids.
  absl::StatusOr<at::Tensor> Read(const TokenIds& ids) {
    at::Tensor hidden;
    if (model_.traits().is_incremental) {
      CAIRN_ASSIGN_OR_RETURN(
          hidden, model_.Hidden(IdTensor(ids).unsqueeze(0), &memory_));
    } else {
      // Positions go by the whole length, so that all is read again.
      seen_.insert(seen_.end(), ids.begin(), ids.end());
      CAIRN_ASSIGN_OR_RETURN(hidden,
                             model_.Hidden(IdTensor(seen_).unsqueeze(0)));
    }
    hidden = hidden[0];
    const int64_t count = static_cast<int64_t>(ids.size());
    hidden = hidden.narrow(0, hidden.size(0) - count, count);
    next_ = hidden.narrow(0, count - 1, 1);
    return hidden;
  }

 private:
  explicit Reading(const LanguageModel& model) : model_(model) {}

  const LanguageModel& model_;
  Memory memory_;
  TokenIds seen_;  // where the model is not incremental
  at::Tensor next_;
};

absl::StatusOr<double> ScoreAfter(const LanguageModel& model, Reading reading,
                                  const TokenIds& continuation) {
  at::Tensor hidden = reading.next();
  if (continuation.size() > 1) {
    CAIRN_ASSIGN_OR_RETURN(
        const at::Tensor more,
        reading.Read({continuation.begin(), continuation.end() - 1}));
    hidden = at::cat({hidden, more});
  }
  return SumLogprobs(model, hidden, IdTensor(continuation).to(hidden.device()));
}

// Where positions go by the whole length, each continuation is read with its
// context.
absl::StatusOr<double> ScoreWhole(const LanguageModel& model, TokenIds context,
                                  const TokenIds& continuation) {
  const int64_t count = static_cast<int64_t>(continuation.size());
  context.insert(context.end(), continuation.begin(), continuation.end() - 1);
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor hidden,
                         model.Hidden(IdTensor(context).unsqueeze(0)));
  return SumLogprobs(model, hidden[0].narrow(0, hidden.size(1) - count, count),
                     IdTensor(continuation).to(hidden.device()));
}

// The most likely token and its log-probability.
absl::StatusOr<std::pair<int64_t, double>> MostLikely(
    const LanguageModel& model, const at::Tensor& hidden) {
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor logits, model.Logits(hidden));
  const at::Tensor scores =
      logits.to(at::kFloat).flatten().to(at::kCPU).contiguous();
  const float* begin = scores.data_ptr<float>();
  const float* best = std::max_element(begin, begin + scores.numel());
  const double logprob = *best - LogSumExp(begin, scores.numel());
  if (!std::isfinite(logprob)) return Overflow();
  return std::make_pair(static_cast<int64_t>(best - begin), logprob);
}

}  // namespace

at::Tensor IdTensor(absl::Span<const int64_t> ids) {
  at::Tensor out =
      at::empty({static_cast<int64_t>(ids.size())}, at::dtype(at::kLong));
  std::copy(ids.begin(), ids.end(), out.data_ptr<int64_t>());
  return out;
}

absl::StatusOr<double> ScoreText(const LanguageModel& model,
                                 absl::Span<const int64_t> ids) {
  return CatchTorch("scoring", [&]() -> absl::StatusOr<double> {
    const c10::InferenceMode no_gradients;
    const TokenIds first(ids.begin(), ids.begin() + 1);
    const TokenIds rest(ids.begin() + 1, ids.end());
    if (!model.traits().has_encoder) return ScoreWhole(model, first, rest);
    CAIRN_ASSIGN_OR_RETURN(Reading reading, Reading::Begin(model, first));
    return ScoreAfter(model, std::move(reading), rest);
  });
}

absl::StatusOr<std::vector<double>> ScoreContinuations(
    const LanguageModel& model, const TokenIds& context,
    const std::vector<TokenIds>& continuations) {
  return CatchTorch("scoring", [&]() -> absl::StatusOr<std::vector<double>> {
    const c10::InferenceMode no_gradients;
    std::vector<double> scores;
    if (!model.traits().is_incremental) {
      for (const TokenIds& continuation : continuations) {
        CAIRN_ASSIGN_OR_RETURN(scores.emplace_back(),
                               ScoreWhole(model, context, continuation));
      }
      return scores;
    }
    CAIRN_ASSIGN_OR_RETURN(const Reading reading,
                           Reading::Begin(model, context));
    for (const TokenIds& continuation : continuations) {
      CAIRN_ASSIGN_OR_RETURN(scores.emplace_back(),
                             ScoreAfter(model, reading, continuation));
    }
    return scores;
  });
}

absl::StatusOr<Generated> GenerateGreedily(
    const LanguageModel& model, const TokenIds& context, int64_t new_tokens_max,
    const std::function<bool(const TokenIds&)>& is_over) {
  return CatchTorch("generating", [&]() -> absl::StatusOr<Generated> {
    const c10::InferenceMode no_gradients;
    const std::vector<int64_t>& ends = model.traits().end_ids;
    Generated out;
    CAIRN_ASSIGN_OR_RETURN(Reading reading, Reading::Begin(model, context));
    while (true) {
      CAIRN_ASSIGN_OR_RETURN(const auto best,
                             MostLikely(model, reading.next()));
      const auto [id, logprob] = best;
      if (std::find(ends.begin(), ends.end(), id) != ends.end()) break;
      out.ids.push_back(id);
      out.logprob_sum += logprob;
      if (static_cast<int64_t>(out.ids.size()) == new_tokens_max) break;
      if (is_over && is_over(out.ids)) break;
      CAIRN_RETURN_IF_ERROR(reading.Read({id}).status());
    }
    return out;
  });
}

absl::Status NoHead(const Model& model, absl::string_view kind,
                    absl::string_view needed) {
  return ReasonedError(
      absl::StatusCode::kUnimplemented, "UNSUPPORTED",
      absl::StrCat("a suite of kind ", kind, " cannot be scored with ",
                   model.architecture(), ": it needs ", needed));
}

absl::StatusOr<const LanguageModel*> RequireLanguage(const Model& model,
                                                     absl::string_view kind) {
  if (model.language() != nullptr) return model.language();
  return NoHead(model, kind, "a model that predicts the next token");
}

absl::Status CheckVocabulary(const TextLimits& limits, const ItemHead& item,
                             absl::string_view field,
                             absl::Span<const int64_t> ids) {
  for (int64_t id : ids) {
    if (id < limits.vocab_size) continue;
    return UnfitItem(item, absl::StrCat("`", field, "` holds token id ", id,
                                        "; the model's vocabulary has ",
                                        limits.vocab_size, " tokens"));
  }
  return absl::OkStatus();
}

absl::Status CheckInputLength(const TextLimits& limits, const ItemHead& item,
                              int64_t tokens) {
  if (tokens <= limits.longest_input) return absl::OkStatus();
  return UnfitItem(
      item, absl::StrCat("an input of ", tokens, " tokens; the model takes ",
                         limits.longest_input, " at most"));
}

}  // namespace cairn
