#include "merge/engine/whole_model_scan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "merge/engine/piece_runner.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// What a thread sees of one tile.
using Visit = absl::FunctionRef<void(
    int worker, size_t tensor, const std::vector<size_t>& participants,
    const std::vector<const float*>& values, size_t count)>;

absl::Status ForEachTile(const TaskVectors& taus, const ScanOptions& options,
                         Visit visit) {
  return RunPieces(
      options.threads, static_cast<int64_t>(taus.tensors()),
      [&](int worker, int64_t piece) -> absl::Status {
        const auto tensor = static_cast<size_t>(piece);
        const std::vector<size_t> participants = taus.ParticipantsOf(tensor);
        CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<TaskVectorReader> reader,
                               taus.Open(tensor));
        const int64_t elements = taus.elements(tensor);
        for (int64_t first = 0; first < elements;
             first += options.tile_elements) {
          if (options.is_cancelled != nullptr && *options.is_cancelled) {
            return absl::CancelledError(
                "interrupted; the same command goes on");
          }
          const auto count = static_cast<size_t>(
              std::min(options.tile_elements, elements - first));
          CAIRN_ASSIGN_OR_RETURN(const std::vector<const float*> values,
                                 reader->Read(first, count));
          visit(worker, tensor, participants, values, count);
        }
        return absl::OkStatus();
      });
}

// Magnitudes of floats order as their bits do.
uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

constexpr int kLowerBits = 16;
constexpr size_t kBins = size_t{1} << 16;
using Histogram = std::vector<int64_t>;

// The bin that holds the `rank`-th largest (from 1) and how many of the rank
// are left within it; {0, 0} when there are fewer.
std::pair<size_t, int64_t> BinOfRank(const Histogram& counts, int64_t rank) {
  for (size_t bin = kBins; bin-- > 0;) {
    if (rank <= counts[bin]) return {bin, rank};
    rank -= counts[bin];
  }
  return {0, 0};
}

// Counts every participant's values by the bin that `bin_of` gives; -1 counts
// nothing. Integers, so that the order of threads does not matter.
template <typename BinOf>
absl::StatusOr<std::vector<Histogram>> Count(const TaskVectors& taus,
                                             const ScanOptions& options,
                                             BinOf bin_of) {
  std::vector<std::vector<Histogram>> each(
      static_cast<size_t>(options.threads),
      std::vector<Histogram>(taus.participants()));
  CAIRN_RETURN_IF_ERROR(ForEachTile(
      taus, options,
      [&](int worker, size_t, const std::vector<size_t>& participants,
          const std::vector<const float*>& values, size_t count) {
        for (size_t k = 0; k < participants.size(); ++k) {
          Histogram& counts =
              each[static_cast<size_t>(worker)][participants[k]];
          counts.resize(kBins);
          for (size_t i = 0; i < count; ++i) {
            const uint32_t bits = MagnitudeBits(values[k][i]);
            if (bits == 0) continue;  // never among those to keep
            const int64_t bin = bin_of(participants[k], bits);
            if (bin >= 0) ++counts[static_cast<size_t>(bin)];
          }
        }
      }));
  std::vector<Histogram> total(taus.participants(), Histogram(kBins));
  for (const auto& worker : each) {
    for (size_t p = 0; p < worker.size(); ++p) {
      for (size_t bin = 0; bin < worker[p].size(); ++bin) {
        total[p][bin] += worker[p][bin];
      }
    }
  }
  return total;
}

}  // namespace

absl::Status GatherProducts(const TaskVectors& taus, const ScanOptions& options,
                            WholeModel& whole) {
  const size_t n = whole.participants = taus.participants();
  std::vector<std::vector<double>> sums(taus.tensors());
  CAIRN_RETURN_IF_ERROR(ForEachTile(
      taus, options,
      [&](int, size_t tensor, const std::vector<size_t>& participants,
          const std::vector<const float*>& values, size_t count) {
        std::vector<double>& sum = sums[tensor];
        sum.resize(participants.size() * participants.size());
        for (size_t i = 0; i < participants.size(); ++i) {
          for (size_t j = 0; j <= i; ++j) {
            AddDot(values[i], values[j], count,
                   sum[i * participants.size() + j]);
          }
        }
      }));
  whole.products.assign(n * n, 0.0);
  for (size_t tensor = 0; tensor < sums.size(); ++tensor) {
    if (sums[tensor].empty()) continue;
    const std::vector<size_t> participants = taus.ParticipantsOf(tensor);
    for (size_t i = 0; i < participants.size(); ++i) {
      for (size_t j = 0; j <= i; ++j) {
        const size_t a = participants[i], b = participants[j];
        const double value = sums[tensor][i * participants.size() + j];
        whole.products[a * n + b] += value;
        if (a != b) whole.products[b * n + a] += value;
      }
    }
  }
  return absl::OkStatus();
}

std::optional<Duplicate> FindDuplicate(
    const WholeModel& whole, double limit,
    absl::FunctionRef<std::string(size_t participant)> name) {
  for (size_t i = 0; i < whole.participants; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double cosine = whole.Cosine(i, j);
      if (!(cosine > limit)) continue;
      return Duplicate{
          .first = j,
          .second = i,
          .message =
              absl::StrFormat("%s and %s are as good as the same change: their "
                              "cosine is %.4f, above %g; leave one of them out",
                              name(j), name(i), cosine, limit)};
    }
  }
  return std::nullopt;
}

absl::Status GatherThresholds(const TaskVectors& taus,
                              const std::vector<double>& densities,
                              int64_t elements, const ScanOptions& options,
                              WholeModel& whole) {
  whole.participants = taus.participants();
  CAIRN_ASSIGN_OR_RETURN(
      const std::vector<Histogram> upper,
      Count(taus, options, [](size_t, uint32_t bits) {
        return static_cast<int64_t>(bits >> kLowerBits);
      }));
  std::vector<std::pair<size_t, int64_t>> bins;
  for (size_t p = 0; p < upper.size(); ++p) {
    // At least one stays.
    const auto keep = std::max<int64_t>(
        1, static_cast<int64_t>(densities[p] * static_cast<double>(elements)));
    bins.push_back(BinOfRank(upper[p], keep));
  }
  CAIRN_ASSIGN_OR_RETURN(
      const std::vector<Histogram> lower,
      Count(taus, options, [&](size_t p, uint32_t bits) -> int64_t {
        if ((bits >> kLowerBits) != bins[p].first) return -1;
        return bits & ((1u << kLowerBits) - 1);
      }));
  whole.thresholds.assign(taus.participants(), 0.0f);
  for (size_t p = 0; p < bins.size(); ++p) {
    const auto [bin, rank] = bins[p];
    if (rank == 0) continue;  // fewer than `keep` are not zero: all stay
    const size_t low = BinOfRank(lower[p], rank).first;
    whole.thresholds[p] =
        std::bit_cast<float>(static_cast<uint32_t>((bin << kLowerBits) | low));
  }
  return absl::OkStatus();
}

absl::Status GatherMajority(const TaskVectors& taus, const ScanOptions& options,
                            WholeModel& whole) {
  std::vector<int64_t> sums(static_cast<size_t>(options.threads), 0);
  CAIRN_RETURN_IF_ERROR(ForEachTile(
      taus, options,
      [&](int worker, size_t, const std::vector<size_t>& participants,
          const std::vector<const float*>& values, size_t count) {
        int64_t sum = 0;
        for (size_t i = 0; i < count; ++i) {
          float elected = 0;
          for (size_t k = 0; k < participants.size(); ++k) {
            if (std::fabs(values[k][i]) >= whole.thresholds[participants[k]]) {
              elected += values[k][i];
            }
          }
          sum += (elected > 0) - (elected < 0);
        }
        sums[static_cast<size_t>(worker)] += sum;
      }));
  int64_t total = 0;
  for (int64_t sum : sums) total += sum;
  whole.majority = total < 0 ? -1 : 1;
  return absl::OkStatus();
}

}  // namespace cairn
