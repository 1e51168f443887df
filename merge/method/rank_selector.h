#ifndef CAIRN_MERGE_METHOD_RANK_SELECTOR_H_
#define CAIRN_MERGE_METHOD_RANK_SELECTOR_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cairn {

// Order statistics of a stream of magnitudes, exact and in fixed memory: two
// passes over the values, by the upper and by the lower half of their bits.
// The sign of a value is ignored. Not thread-safe.
class RankSelector {
 public:
  static constexpr int kPasses = 2;
  // Bytes that one takes.
  static int64_t MemoryBytes(size_t ranks);

  // `ranks`: from 0 for the smallest, each below the number of values.
  explicit RankSelector(std::vector<int64_t> ranks);

  void Count(int pass, const float* values, size_t count);
  void EndPass(int pass);

  // For ranks that are known only after the first pass: counts it apart, and
  // takes the counts in place of it.
  static void CountUpper(const float* values, size_t count,
                         std::vector<uint32_t>& upper);
  void TakeUpper(std::vector<uint32_t> upper) { upper_ = std::move(upper); }

  static uint32_t BitsOf(float value);
  float Value(size_t index) const;
  // Bits of the value at ranks[index]; those of magnitudes order as the
  // numbers do.
  uint32_t Bits(size_t index) const { return found_[index].bits; }
  // How many of the values that equal it have a smaller rank.
  int64_t EqualBefore(size_t index) const { return found_[index].before; }

 private:
  struct Found {
    uint32_t bits = 0;
    int64_t before = 0;  // rank within the bin, then among equals
  };

  const std::vector<int64_t> ranks_;
  std::vector<Found> found_;
  std::vector<uint32_t> upper_;
  std::vector<std::vector<uint32_t>> lower_;  // one a rank's bin
  std::vector<size_t> table_;                 // of each rank, in lower_
};

// Keeps the elements whose magnitude has a rank in [begin, end) of all of a
// tensor; of equal ones the later in the tensor rank higher. Feed the tensor
// in order: kPasses times to Count(), then any number of times to Apply().
class RankWindow {
 public:
  static constexpr int kPasses = RankSelector::kPasses;

  // `elements`: how many the tensor has.
  RankWindow(int64_t begin, int64_t end, int64_t elements);
  static int64_t MemoryBytes() { return RankSelector::MemoryBytes(2); }

  void Count(int pass, const float* values, size_t count) {
    if (begin_ < end_) selector_.Count(pass, values, count);
  }
  void EndPass(int pass);
  // Starts again at the tensor's first element.
  void Rewind() { low_seen_ = high_seen_ = 0; }
  // Zeroes what is not kept.
  void Apply(float* values, size_t count);

 private:
  const int64_t begin_;
  const int64_t end_;
  const bool is_open_;  // no rank is too high
  RankSelector selector_;
  uint32_t low_ = 0, high_ = 0x7fffffffu;
  int64_t low_skipped_ = 0;  // equals of `low_` that are not kept, the first
  int64_t high_kept_ = 1;    // equals of `high_` that are kept, the first
  int64_t low_seen_ = 0, high_seen_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_RANK_SELECTOR_H_
