#include "merge/train/loss_gradient.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/tensor/compute.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

at::Tensor ToTensor(const LossGradient::Windows& windows) {
  const auto rows = static_cast<int64_t>(windows.size());
  const auto columns = static_cast<int64_t>(windows[0].size());
  at::Tensor ids = at::empty({rows, columns}, at::kLong);
  int64_t* next = ids.data_ptr<int64_t>();
  for (const auto& window : windows) {
    next = std::copy(window.begin(), window.end(), next);
  }
  return ids;
}

// Summed negative log-likelihood of every id given those before it in its row.
absl::StatusOr<at::Tensor> SummedLoss(const ForwardFunction& forward,
                                      const at::Tensor& ids) {
  const int64_t length = ids.size(1) - 1;
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor logits,
                         forward(ids.narrow(1, 0, length).contiguous()));
  return at::nll_loss(at::log_softmax(logits.flatten(0, 1), -1),
                      ids.narrow(1, 1, length).flatten(), {},
                      at::Reduction::Sum);
}

}  // namespace

LossGradient::LossGradient(ForwardFunction forward, const Tuning& tuning,
                           int64_t lanes, int threads)
    : forward_(std::move(forward)),
      threads_(threads),
      lanes_(static_cast<size_t>(lanes)) {
  for (const TunedWeight& weight : tuning.weights()) {
    leaves_.push_back(weight.tensor);
  }
  for (Lane& lane : lanes_) lane.sum.resize(tuning.weight_count());
}

absl::StatusOr<double> LossGradient::Compute(const Windows& windows,
                                             absl::Span<float> gradient) {
  CAIRN_RETURN_IF_ERROR(Run(windows, Order::kFirst));
  double loss = 0;
  std::fill(gradient.begin(), gradient.end(), 0.0F);
  for (const Lane& lane : lanes_) {
    loss += lane.loss;
    for (size_t i = 0; i < gradient.size(); ++i) gradient[i] += lane.sum[i];
  }
  return loss;
}

absl::Status LossGradient::AddSquares(const Windows& windows,
                                      absl::Span<float> fisher) {
  CAIRN_RETURN_IF_ERROR(Run(windows, Order::kSecond));
  for (const Lane& lane : lanes_) {
    for (size_t i = 0; i < fisher.size(); ++i) fisher[i] += lane.sum[i];
  }
  return absl::OkStatus();
}

absl::Status LossGradient::Run(const Windows& windows, Order order) {
  size_t tokens = 0;
  for (const auto& window : windows) tokens += window.size() - 1;
  const double scale = 1 / static_cast<double>(tokens);
  return ParallelFor(
      threads_, static_cast<int64_t>(lanes_.size()), [&](int64_t index) {
        return CatchTorch("training", [&] {
          return RunLane(windows, static_cast<size_t>(index), order, scale);
        });
      });
}

absl::Status LossGradient::RunLane(const Windows& windows, size_t index,
                                   Order order, double scale) {
  Lane& lane = lanes_[index];
  lane.loss = 0;
  std::fill(lane.sum.begin(), lane.sum.end(), 0.0F);
  Windows group;
  for (size_t i = index; i < windows.size(); i += lanes_.size()) {
    group.push_back(windows[i]);
    const size_t next = i + lanes_.size();
    if (order == Order::kFirst && next < windows.size() &&
        windows[next].size() == group[0].size()) {
      continue;
    }
    CAIRN_RETURN_IF_ERROR(Add(
        group, order,
        order == Order::kFirst ? scale
                               : 1 / static_cast<double>(windows[i].size() - 1),
        lane));
    group.clear();
  }
  return absl::OkStatus();
}

absl::Status LossGradient::Add(const Windows& windows, Order order,
                               double scale, Lane& lane) const {
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor sum,
                         SummedLoss(forward_, ToTensor(windows)));
  const at::Tensor loss = at::mul(sum, scale);
  const double value = loss.item<double>();
  if (!std::isfinite(value)) {
    return absl::FailedPreconditionError(
        "the loss is not finite any more: a lower --lr or --clip helps");
  }
  lane.loss += value;
  const auto gradients = torch::autograd::grad(
      {loss}, leaves_, {}, /*retain_graph=*/false, /*create_graph=*/false,
      /*allow_unused=*/true);
  float* into = lane.sum.data();
  for (size_t i = 0; i < leaves_.size(); ++i) {
    const auto count = static_cast<size_t>(leaves_[i].numel());
    if (gradients[i].defined()) {
      const at::Tensor dense = gradients[i].contiguous();
      const float* g = dense.data_ptr<float>();
      for (size_t j = 0; j < count; ++j) {
        into[j] += order == Order::kFirst ? g[j] : g[j] * g[j];
      }
    }
    into += count;
  }
  return absl::OkStatus();
}

}  // namespace cairn
