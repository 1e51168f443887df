#ifndef CAIRN_MERGE_METHOD_SAMPLED_RANK_H_
#define CAIRN_MERGE_METHOD_SAMPLED_RANK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

// The magnitude of one rank among those of a tensor, exactly, and in one pass
// over it where a look at some of its elements first has told about where it
// lies: the pass counts what is below and keeps what is near. Where the look
// misled, another way has to be taken. The sign of a value is ignored. Not
// thread-safe.
class SampledRank {
 public:
  // Of so few elements all are kept, without a look.
  static constexpr int64_t kSmall = 1 << 16;

  // `rank`: from 0 for the smallest of `elements` magnitudes.
  SampledRank(int64_t rank, int64_t elements);
  // Bytes that it takes at most while it counts.
  static int64_t MemoryBytes(int64_t elements);

  // A look at some elements, from all over the tensor; of one place a call.
  void Look(const float* values, size_t count);
  // False when the look tells too little for a pass to be of use.
  bool EndLook();
  // Every element, once.
  void Count(const float* values, size_t count);
  // False when the rank is not where the look had it.
  bool EndCount();

  // Bits of the magnitude, which order as the numbers do.
  uint32_t bits() const { return bits_; }
  // How many elements that equal it have a smaller rank.
  int64_t equal_before() const { return equal_before_; }

 private:
  // The fraction of a look's places that lies below a magnitude varies by this
  // much from place to place; in ranks of the look.
  double SpreadAt(uint32_t bits) const;

  const int64_t rank_;
  const int64_t elements_;
  std::vector<uint32_t> looked_;
  std::vector<size_t> ends_;  // of the places in it
  // What is near: strictly between, and how many there are of the bounds.
  uint32_t low_ = 0, high_ = 0x7fffffffu;
  int64_t below_ = 0, equal_low_ = 0, equal_high_ = 0;
  std::vector<uint32_t> near_;
  size_t near_count_ = 0;
  const int64_t near_max_;
  bool is_overfull_ = false;
  uint32_t bits_ = 0;
  int64_t equal_before_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_SAMPLED_RANK_H_
