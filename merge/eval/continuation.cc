#include "merge/eval/continuation.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

// Positions whose logits are in memory at a time.
constexpr int64_t kRows = 512;

at::Tensor ToTensor(absl::Span<const int64_t> ids) {
  at::Tensor out =
      at::empty({static_cast<int64_t>(ids.size())}, at::dtype(at::kLong));
  std::copy(ids.begin(), ids.end(), out.data_ptr<int64_t>());
  return out;
}

// Sum over the rows of `hidden` of the log-probability of that row's target.
absl::StatusOr<double> SumLogprobs(const Model& model, const at::Tensor& hidden,
                                   const at::Tensor& targets) {
  double sum = 0;
  for (int64_t row = 0; row < hidden.size(0); row += kRows) {
    const int64_t rows = std::min(kRows, hidden.size(0) - row);
    CAIRN_ASSIGN_OR_RETURN(const at::Tensor logits,
                           model.Logits(hidden.narrow(0, row, rows)));
    const at::Tensor picked =
        at::log_softmax(logits.to(at::kFloat), -1)
            .gather(-1, targets.narrow(0, row, rows).unsqueeze(-1));
    sum += picked.to(at::kDouble).sum().item<double>();
  }
  return sum;
}

}  // namespace

absl::StatusOr<double> ScoreContinuation(const Model& model,
                                         absl::Span<const int64_t> ids,
                                         int64_t first) {
  return CatchTorch("scoring", [&]() -> absl::StatusOr<double> {
    const c10::InferenceMode no_gradients;
    const at::Tensor all = ToTensor(ids).to(model.device());
    const int64_t last = all.size(0) - 1;
    CAIRN_ASSIGN_OR_RETURN(const at::Tensor hidden,
                           model.Hidden(all.narrow(0, 0, last).unsqueeze(0)));
    CAIRN_ASSIGN_OR_RETURN(
        const double sum,
        SumLogprobs(model, hidden[0].narrow(0, first - 1, last - first + 1),
                    all.narrow(0, first, last - first + 1)));
    if (!std::isfinite(sum)) {
      return ReasonedError(absl::StatusCode::kDataLoss, "NON_FINITE",
                           "the model's log-probabilities are not finite: its "
                           "weights are too large or damaged");
    }
    return sum;
  });
}

absl::Status CheckVocabulary(const Model& model, const ItemHead& item,
                             absl::string_view field,
                             absl::Span<const int64_t> ids) {
  for (int64_t id : ids) {
    if (id < model.vocab_size()) continue;
    return UnfitItem(item, absl::StrCat("`", field, "` holds token id ", id,
                                        "; the model's vocabulary has ",
                                        model.vocab_size(), " tokens"));
  }
  return absl::OkStatus();
}

absl::Status CheckInputLength(const Model& model, const ItemHead& item,
                              int64_t tokens) {
  if (tokens <= model.longest_input()) return absl::OkStatus();
  return UnfitItem(
      item, absl::StrCat("an input of ", tokens, " tokens; the model takes ",
                         model.longest_input(), " at most"));
}

}  // namespace cairn
