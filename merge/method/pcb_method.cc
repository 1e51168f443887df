#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/rank_selector.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// The share of elements at either end whose magnitudes are clamped.
constexpr double kClamped = 1e-4;

// A magnitude whose order is that of signed values; of neighbouring values two
// may share one.
float OrderOf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t order = bits >> 31 ? ~bits : bits | 0x80000000u;
  return std::bit_cast<float>(order >> 1);
}

// The least value of that order.
float ValueOf(uint32_t order) {
  const uint32_t bits = order << 1;
  return std::bit_cast<float>(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

class Pcb : public TensorMethod {
 public:
  explicit Pcb(MethodTask task)
      : task_(std::move(task)), others_(task_.Others()) {
    const auto elements = static_cast<double>(task_.elements());
    const int64_t last = std::max<int64_t>(0, task_.elements() - 1);
    const auto rank = [last](double place) {
      return std::clamp<int64_t>(static_cast<int64_t>(place), 0, last);
    };
    for (size_t k = 0; k < others_.size(); ++k) {
      Input input;
      input.magnitudes.emplace(std::vector<int64_t>{
          rank(elements * kClamped), rank(elements * (1 - kClamped) - 1)});
      input.scores.emplace(std::vector<int64_t>{
          rank(elements * (1 - task_.Shared("density")))});
      input.strip.resize(kSumBlock);
      inputs_.push_back(std::move(input));
    }
  }

  // Two for the magnitudes, two for the scores.
  int passes() const override { return 4; }
  int64_t memory_bytes() const override {
    return static_cast<int64_t>(others_.size()) *
           (RankSelector::MemoryBytes(2) + RankSelector::MemoryBytes(1) +
            static_cast<int64_t>(kSumBlock) * 4);
  }

  void Observe(int pass, const InputTile& tile) override {
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      for (size_t k = 0; k < inputs_.size(); ++k) {
        Input& input = inputs_[k];
        if (pass < 2) {
          Subtract(tile.inputs[others_[k]] + begin,
                   tile.inputs[*task_.base] + begin, input.strip.data(), count);
          input.magnitudes->Count(pass, input.strip.data(), count);
          continue;
        }
        for (size_t i = 0; i < count; ++i) {
          const float score = Score(tile, begin + i, k);
          input.most = std::max(input.most, score);
          input.strip[i] = OrderOf(score);
        }
        input.scores->Count(pass - 2, input.strip.data(), count);
      }
    }
  }

  absl::Status EndPass(int pass) override {
    for (Input& input : inputs_) {
      if (pass < 2) {
        input.magnitudes->EndPass(pass);
      } else {
        input.scores->EndPass(pass - 2);
      }
      if (pass == 1) {
        input.low = input.magnitudes->Value(0);
        input.high = input.magnitudes->Value(1);
        input.magnitudes.reset();
      }
      if (pass == 3) {
        input.least_order = input.scores->Bits(0);
        input.least = ValueOf(input.least_order);
        input.scores.reset();
      }
    }
    return absl::OkStatus();
  }

  void Combine(const InputTile& tile, float* out) override {
    const auto lambda = static_cast<float>(task_.Shared("lambda"));
    for (size_t i = 0; i < tile.count; ++i) {
      float sum = 0, divisor = 0;
      for (size_t k = 0; k < inputs_.size(); ++k) {
        const Input& input = inputs_[k];
        const float tau = Tau(tile, i, k);
        const float clamped = std::copysign(
            tau == 0 ? 0.0f : std::clamp(std::fabs(tau), input.low, input.high),
            tau);
        const float share = Share(input, Score(tile, i, k));
        sum += share * clamped;
        divisor += share;
      }
      out[i] = tile.inputs[*task_.base][i] +
               lambda * (sum / std::max(divisor, 1e-12f));
    }
  }

 private:
  struct Input {
    std::optional<RankSelector> magnitudes, scores;
    std::vector<float> strip;
    float low = 0, high = 0;  // of clamped magnitudes
    uint32_t least_order = 0;
    float least = 0;  // the score whose weight is 0, as are those below
    float most = -std::numeric_limits<float>::infinity();
  };

  static float Share(const Input& input, float score) {
    // Without any difference between elements there is no competition.
    if (!(input.most > input.least)) return 1;
    // By order, since a hair's weight counts whole where it is the only one.
    if (std::bit_cast<uint32_t>(OrderOf(score)) <= input.least_order) return 0;
    return (score - input.least) / (input.most - input.least);
  }

  float Tau(const InputTile& tile, size_t i, size_t k) const {
    return tile.inputs[others_[k]][i] - tile.inputs[*task_.base][i];
  }

  // How well the element of one input does among its own and the others'.
  float Score(const InputTile& tile, size_t i, size_t k) const {
    const Input& input = inputs_[k];
    const float tau = Tau(tile, i, k);
    float sum = 0;
    for (size_t j = 0; j < inputs_.size(); ++j) sum += Tau(tile, i, j);
    double self = 0;
    if (input.high > input.low) {
      const float clamped = std::clamp(std::fabs(tau), input.low, input.high);
      self = static_cast<double>(clamped - input.low) /
             static_cast<double>(input.high - input.low);
    }
    const double score =
        std::exp(static_cast<double>(inputs_.size()) * self * self) *
        std::tanh(static_cast<double>(tau) * static_cast<double>(sum));
    constexpr double kMost = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(score, -kMost, kMost));
  }

  const MethodTask task_;
  const std::vector<size_t> others_;
  std::vector<Input> inputs_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakePcb(MethodTask task) {
  return std::make_unique<Pcb>(std::move(task));
}

}  // namespace

MethodSpec PcbMethod() {
  return {.name = "pcb",
          .source =
              "arXiv 2410.02396, tensor by tensor: scores exp(n x norm(|tau|)^2) "
              "x tanh(tau x sum of taus); the best `density` of each input, "
              "scaled to 0 to 1, are the weights of the mean",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = {SharedNumber("lambda", 1.2, -kLargest, kLargest),
                         SharedNumber("density", 0.1, 0, 1)},
          .make = MakePcb};
}

}  // namespace cairn
