#ifndef CAIRN_MERGE_TRAIN_LOSS_GRADIENT_H_
#define CAIRN_MERGE_TRAIN_LOSS_GRADIENT_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "merge/train/tuning.h"

namespace cairn {

// Logits [B, T, vocabulary] of token ids [B, T], differentiable by the tuned
// weights; called from several threads at once.
using ForwardFunction =
    std::function<absl::StatusOr<at::Tensor>(const at::Tensor& ids)>;

// The loss of a language model on windows of text and its derivatives. The
// windows of a batch are dealt to a fixed number of lanes; a lane takes its
// windows of equal length together, and lanes are summed in order, so results
// do not depend on how many threads share the lanes. libtorch must be set to
// one thread a kernel.
class LossGradient {
 public:
  using Windows = std::vector<std::vector<int64_t>>;

  LossGradient(ForwardFunction forward, const Tuning& tuning, int64_t lanes,
               int threads);

  // Mean negative log-likelihood a predicted token over all windows; its
  // gradient by the tuned weights goes into `gradient`. FAILED_PRECONDITION
  // when the loss is not finite.
  absl::StatusOr<double> Compute(const Windows& windows,
                                 absl::Span<float> gradient);

  // Adds, for each window, the squared gradient of its mean negative
  // log-likelihood to `fisher`: the diagonal of the empirical Fisher matrix.
  absl::Status AddSquares(const Windows& windows, absl::Span<float> fisher);

 private:
  enum class Order { kFirst, kSecond };  // sums of gradients, or of squares
  struct Lane {
    std::vector<float> sum;
    double loss = 0;
  };

  absl::Status Run(const Windows& windows, Order order);
  absl::Status RunLane(const Windows& windows, size_t index, Order order,
                       double scale);
  // Adds the derivatives of scale * (summed loss of windows of one length).
  absl::Status Add(const Windows& windows, Order order, double scale,
                   Lane& lane) const;

  const ForwardFunction forward_;
  const int threads_;
  std::vector<at::Tensor> leaves_;
  std::vector<Lane> lanes_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_LOSS_GRADIENT_H_
