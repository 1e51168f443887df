#ifndef CAIRN_MERGE_METHOD_ROW_RANKS_H_
#define CAIRN_MERGE_METHOD_ROW_RANKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

// Chooses elements of a row with a probability that rises linearly with the
// rank of their magnitude, from density - epsilon for the smallest to
// density + epsilon for the largest; of equal magnitudes the later rank
// higher. Most elements are decided by their random word alone, and most of
// the rest by a histogram of the row; only neighbours of a threshold have to
// be ranked exactly. Not thread-safe.
class RankedChooser {
 public:
  RankedChooser(size_t length, double density, double epsilon);

  // Element i of the row is values[i * stride]; words[i * stride] is its
  // random word, which becomes 1 where it is chosen and else 0, and
  // kept[i * stride] its value or 0.
  void Choose(const float* values, uint32_t* words, size_t stride, float* kept);

 private:
  static constexpr size_t kBins = 2048;

  // The least rank at which an element with this word is chosen.
  uint32_t RankNeeded(uint32_t word) const;

  const size_t length_;
  const double low_;       // probability of rank 0
  const double range_;     // 2 epsilon
  const uint32_t always_;  // words below it are chosen whatever the rank
  const uint32_t never_;   // words from it on never
  void FillBins(const float* values, size_t stride);
  // The exact rank of element i.
  uint32_t RankOf(const float* values, size_t stride, size_t i);

  std::vector<uint16_t> bins_;    // of each element
  std::vector<uint32_t> starts_;  // elements in lower bins; [kBins] is all
  std::vector<uint32_t> order_;   // elements by bin
  std::vector<uint32_t> ranks_;   // of elements whose bin was ranked
  std::vector<bool> is_ranked_;   // of each bin
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_ROW_RANKS_H_
