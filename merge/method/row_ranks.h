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

  // Bytes that one of rows of this length and stride takes.
  static int64_t MemoryBytes(int64_t length, int64_t stride);

  // Element i of the row is values[i * stride]; words[i * stride] is its
  // random word, which becomes 1 where it is chosen and else 0.
  void Choose(const float* values, uint32_t* words, size_t stride);

 private:
  void ChooseRow(const float* values, uint32_t* words);
  void FillBins(const float* values);
  // Decides the first `count` that are undecided where their bin says enough;
  // keeps the others, and returns how many those are. Without branches, which
  // nothing could foresee.
  size_t DecideByBins(size_t count, uint32_t* words);
  void Place(const float* values);
  void RankBin(const float* values, uint16_t bin);
  // The exact rank of element i.
  uint32_t RankOf(const float* values, uint32_t i);

  const size_t length_;
  const double low_;       // probability of rank 0
  const double range_;     // 2 epsilon
  const uint32_t always_;  // words below it are chosen whatever the rank
  const uint32_t never_;   // words from it on never
  const size_t bin_count_;
  const int shift_;
  std::vector<uint16_t> bins_;    // of each element
  std::vector<uint32_t> starts_;  // elements in lower bins; the last is all
  std::vector<uint32_t> others_;  // half of the counts, while they are made
  // Elements by bin and their bits, once one had to be ranked exactly.
  bool is_placed_ = false;
  std::vector<uint32_t> ends_;
  std::vector<uint32_t> order_, placed_;
  std::vector<uint32_t> ranks_;  // of elements of bins that were sorted
  std::vector<bool> is_ranked_;  // of each bin
  // Elements that their word alone does not decide, and the least rank at
  // which they are chosen.
  std::vector<uint32_t> undecided_, needed_;
  // A row whose elements do not lie side by side.
  std::vector<float> row_values_;
  std::vector<uint32_t> row_words_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_ROW_RANKS_H_
