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

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_RANK_SELECTOR_H_
