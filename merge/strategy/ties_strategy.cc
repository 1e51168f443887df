#include "merge/strategy/ties_strategy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Magnitudes of floats order as their bits do.
uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

constexpr int kLowerBits = 16;
constexpr size_t kBins = size_t{1} << 16;

using Histogram = std::vector<int64_t>;

// Counts of all inputs, filled from several threads. Integer sums, so order
// does not matter.
class Histograms {
 public:
  explicit Histograms(size_t inputs) : counts_(inputs, Histogram(kBins, 0)) {}

  void Add(size_t input, const Histogram& counts) {
    MutexLock lock(mutex_);
    for (size_t bin = 0; bin < kBins; ++bin) {
      counts_[input][bin] += counts[bin];
    }
  }
  std::vector<Histogram> Take() && { return std::move(counts_); }

 private:
  Mutex mutex_;
  std::vector<Histogram> counts_;
};

// The bin that holds the `rank`-th largest (from 1) and how many of the rank
// are left within it; {0, 0} when there are fewer.
std::pair<size_t, int64_t> BinOfRank(const Histogram& counts, int64_t rank) {
  for (size_t bin = kBins; bin-- > 0;) {
    if (rank <= counts[bin]) return {bin, rank};
    rank -= counts[bin];
  }
  return {0, 0};
}

template <typename BinOf>
absl::StatusOr<std::vector<Histogram>> Count(DeltaScan& scan, BinOf bin_of) {
  Histograms all(scan.inputs());
  CAIRN_RETURN_IF_ERROR(
      scan.ForEachTile([&](size_t input, absl::Span<const float> values) {
        thread_local Histogram counts;
        counts.assign(kBins, 0);
        for (float value : values) {
          const uint32_t bits = MagnitudeBits(value);
          if (bits == 0) continue;  // never among those to keep
          const int64_t bin = bin_of(input, bits);
          if (bin >= 0) ++counts[static_cast<size_t>(bin)];
        }
        all.Add(input, counts);
      }));
  return std::move(all).Take();
}

}  // namespace

TiesStrategy::TiesStrategy(Options options) : options_(std::move(options)) {}

absl::Status TiesStrategy::Prepare(DeltaScan& scan) {
  // At least one stays.
  const auto keep = std::max<int64_t>(
      1, static_cast<int64_t>(options_.density *
                              static_cast<double>(scan.elements())));
  CAIRN_ASSIGN_OR_RETURN(std::vector<Histogram> upper,
                         Count(scan, [](size_t, uint32_t bits) {
                           return static_cast<int64_t>(bits >> kLowerBits);
                         }));
  std::vector<std::pair<size_t, int64_t>> bins;
  for (const Histogram& counts : upper) bins.push_back(BinOfRank(counts, keep));

  CAIRN_ASSIGN_OR_RETURN(
      std::vector<Histogram> lower,
      Count(scan, [&](size_t input, uint32_t bits) -> int64_t {
        if ((bits >> kLowerBits) != bins[input].first) return -1;
        return bits & ((1u << kLowerBits) - 1);
      }));
  thresholds_.assign(scan.inputs(), 0.0f);
  for (size_t i = 0; i < thresholds_.size(); ++i) {
    const auto [bin, rank] = bins[i];
    if (rank == 0) continue;  // fewer than `keep` are not zero: all stay
    const size_t low = BinOfRank(lower[i], rank).first;
    thresholds_[i] =
        std::bit_cast<float>(static_cast<uint32_t>((bin << kLowerBits) | low));
  }
  return absl::OkStatus();
}

std::vector<double> TiesStrategy::Coefficients() const {
  std::vector<double> coefficients = options_.weights;
  for (double& c : coefficients) c *= options_.lambda;
  return coefficients;
}

void TiesStrategy::Combine(absl::Span<const TileDelta> deltas,
                           absl::Span<float> out) const {
  const auto lambda = static_cast<float>(options_.lambda);
  for (size_t i = 0; i < out.size(); ++i) {
    float positive = 0, negative = 0;
    int positives = 0, negatives = 0;
    for (const TileDelta& delta : deltas) {
      const float value = delta.values[i];
      if (std::fabs(value) < thresholds_[delta.input]) continue;
      const float weighted =
          static_cast<float>(options_.weights[delta.input]) * value;
      if (weighted > 0) {
        positive += weighted;
        ++positives;
      } else if (weighted < 0) {
        negative += weighted;
        ++negatives;
      }
    }
    const float sum = positive + negative;
    if (sum > 0) {
      out[i] = lambda * (positive / static_cast<float>(positives));
    } else if (sum < 0) {
      out[i] = lambda * (negative / static_cast<float>(negatives));
    } else {
      out[i] = 0;
    }
  }
}

}  // namespace cairn
