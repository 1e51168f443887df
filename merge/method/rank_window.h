#ifndef CAIRN_MERGE_METHOD_RANK_WINDOW_H_
#define CAIRN_MERGE_METHOD_RANK_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "merge/method/rank_selector.h"
#include "merge/method/sampled_rank.h"
#include "merge/method/tensor_method.h"

namespace cairn {

namespace internal {

// How many elements equal a bound.
struct BoundCounts {
  size_t low = 0, high = 0;
};

}  // namespace internal

// Keeps the elements whose magnitude has a rank in [begin, end) of all of a
// tensor; of equal ones the later in the tensor rank higher. Feed the tensor
// in order: to Count(), kPasses times as scope() says, then any number of
// times to Apply(). Most tensors take a look and one pass; where the look
// misled, two more. Not thread-safe.
class RankWindow {
 public:
  static constexpr int kPasses = 2 + RankSelector::kPasses;

  // `elements`: how many the tensor has.
  RankWindow(int64_t begin, int64_t end, int64_t elements);
  int64_t memory_bytes() const;

  PassScope scope(int pass) const;
  void Count(int pass, const float* values, size_t count);
  void EndPass(int pass);
  // Starts again at the tensor's first element.
  void Rewind() { low_seen_ = high_seen_ = 0; }
  // Zeroes what is not kept.
  void Apply(float* values, size_t count);
  // out = weight * what is kept of values - base, else 0.
  void ApplyToDifference(const float* values, const float* base, float weight,
                         float* out, size_t count);

 private:
  bool is_empty() const { return begin_ >= end_; }
  // What to do with a strip of elements: magnitudes in [first, last] are kept,
  // unless a bound has equals in the strip that are and others that are not.
  struct Bounds {
    int32_t first = 0, last = 0;
    bool is_mixed = false;
  };
  Bounds BoundsOf(size_t count) const;
  void Note(internal::BoundCounts equal);
  // One element after the other.
  void ApplyMixed(float* values, size_t count);
  void SetBound(size_t index, uint32_t bits, int64_t equal_before);

  const int64_t begin_;
  const int64_t end_;
  const int64_t elements_;
  const bool is_open_;                // no rank is too high
  std::vector<SampledRank> sampled_;  // of the bounds
  RankSelector exact_;                // where a look misled
  bool needs_exact_ = false;
  uint32_t low_ = 0, high_ = 0x7fffffffu;
  int64_t low_skipped_ = 0;  // equals of `low_` that are not kept, the first
  int64_t high_kept_ = 1;    // equals of `high_` that are kept, the first
  int64_t low_seen_ = 0, high_seen_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_RANK_WINDOW_H_
