#include <algorithm>
#include <cmath>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/rank_selector.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// Select the elements that vary most between inputs, weigh each input by the
// mean square of what is left of it, erase those of the minority's sign.
class Sce : public TensorMethod {
 public:
  explicit Sce(MethodTask task)
      : task_(std::move(task)),
        others_(task_.Others()),
        top_(task_.Shared("select_topk")),
        deltas_(others_.size(), std::vector<float>(kSumBlock)),
        squares_(others_.size(), 0.0),
        divisors_(kSumBlock) {}

  // Two for the cut of the variances, one for the weights.
  int passes() const override { return 3; }
  int64_t memory_bytes() const override {
    return RankSelector::MemoryBytes(1) +
           static_cast<int64_t>((others_.size() + 1) * kSumBlock * 4);
  }

  void Observe(int pass, const InputTile& tile) override {
    if (pass < 2 && !is_selective()) return;
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      FillDeltas(tile, begin, count);
      if (pass == 0) CountVarying(count);
      if (pass < 2) {
        CountVariances(pass, count);
        continue;
      }
      if (is_selective()) Select(count);
      for (size_t k = 0; k < others_.size(); ++k) {
        AddDot(deltas_[k].data(), deltas_[k].data(), count, squares_[k]);
      }
    }
  }

  absl::Status EndPass(int pass) override {
    if (pass < 2) {
      if (!is_selective()) return absl::OkStatus();
      if (pass == 0) {
        kept_ = static_cast<int64_t>(static_cast<double>(varying_) *
                                     std::max(0.0, top_));
        if (kept_ == 0) return absl::OkStatus();
        // The ranks are known only now, so the upper halves were counted
        // apart; hand them over.
        selector_.emplace(std::vector<int64_t>{task_.elements() - kept_});
        selector_->TakeUpper(std::move(upper_));
      }
      if (kept_ > 0) selector_->EndPass(pass);
      return absl::OkStatus();
    }
    const auto elements = static_cast<double>(task_.elements());
    double total = 0;
    for (double& square : squares_) {
      square /= elements;
      total += square;
    }
    for (double square : squares_) {
      weights_.push_back(static_cast<float>(
          std::abs(total) < 1e-6 ? 1.0 / static_cast<double>(others_.size())
                                 : square / total));
    }
    equal_seen_ = 0;
    return absl::OkStatus();
  }

  void Combine(const InputTile& tile, float* out) override {
    const float* base = tile.inputs[*task_.base];
    std::vector<const float*> values;
    for (const auto& delta : deltas_) values.push_back(delta.data());
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      FillDeltas(tile, begin, count);
      if (is_selective()) Select(count);
      SumErased(values, count, out + begin);
      Add(out + begin, base + begin, out + begin, count);
    }
  }

 private:
  bool is_selective() const { return top_ < 1; }

  void FillDeltas(const InputTile& tile, size_t begin, size_t count) {
    const float* base = tile.inputs[*task_.base] + begin;
    for (size_t k = 0; k < others_.size(); ++k) {
      Subtract(tile.inputs[others_[k]] + begin, base, deltas_[k].data(), count);
    }
  }

  float Variance(size_t i) const {
    double mean = 0, sum = 0;
    for (const auto& delta : deltas_) mean += static_cast<double>(delta[i]);
    mean /= static_cast<double>(deltas_.size());
    for (const auto& delta : deltas_) {
      const double d = static_cast<double>(delta[i]) - mean;
      sum += d * d;
    }
    return static_cast<float>(sum / static_cast<double>(deltas_.size()));
  }

  void CountVarying(size_t count) {
    for (size_t i = 0; i < count; ++i) varying_ += Variance(i) != 0 ? 1 : 0;
  }

  void CountVariances(int pass, size_t count) {
    if (pass == 1 && kept_ == 0) return;
    for (size_t i = 0; i < count; ++i) divisors_[i] = Variance(i);
    if (pass == 0) {
      RankSelector::CountUpper(divisors_.data(), count, upper_);
    } else {
      selector_->Count(pass, divisors_.data(), count);
    }
  }

  // Zeroes the deltas of elements that vary too little; of equal ones the
  // first go.
  void Select(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      bool is_kept = false;
      if (kept_ > 0) {
        const uint32_t bits = RankSelector::BitsOf(Variance(i));
        is_kept = bits > selector_->Bits(0) ||
                  (bits == selector_->Bits(0) &&
                   equal_seen_++ >= selector_->EqualBefore(0));
      }
      if (is_kept) continue;
      for (auto& delta : deltas_) delta[i] = 0;
    }
  }

  // sum of weight x delta over sum of weights, of the elected sign.
  void SumErased(const std::vector<const float*>& values, size_t count,
                 float* out) {
    for (size_t i = 0; i < count; ++i) {
      float sign = 0;
      for (const float* delta : values) sign += delta[i];
      float sum = 0, divisor = 0;
      for (size_t k = 0; k < values.size(); ++k) {
        const float delta = values[k][i];
        if (sign >= 0 ? delta > 0 : delta < 0) {
          sum += weights_[k] * delta;
          divisor += weights_[k];
        }
      }
      out[i] = sum / std::max(divisor, 1e-6f);
    }
  }

  const MethodTask task_;
  const std::vector<size_t> others_;
  const double top_;
  std::vector<std::vector<float>> deltas_;
  std::vector<double> squares_;
  std::vector<float> weights_, divisors_;
  std::vector<uint32_t> upper_;
  std::optional<RankSelector> selector_;
  int64_t varying_ = 0, kept_ = 0, equal_seen_ = 0;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeSce(MethodTask task) {
  return std::make_unique<Sce>(std::move(task));
}

}  // namespace

MethodSpec SceMethod() {
  return {.name = "sce",
          .source = "arXiv 2408.07990 (FuseChat): select, calculate, erase",
          .base = MethodSpec::Base::kRequired,
          .is_on_deltas = true,
          .parameters = {SharedBool("int8_mask", false),
                         SharedNumber("select_topk", 1.0, 0, 1)},
          .make = MakeSce};
}

}  // namespace cairn
