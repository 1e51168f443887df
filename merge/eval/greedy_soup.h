#ifndef CAIRN_MERGE_EVAL_GREEDY_SOUP_H_
#define CAIRN_MERGE_EVAL_GREEDY_SOUP_H_

#include <cstddef>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

// One trial of a greedy soup.
struct SoupTrial {
  size_t candidate = 0;
  double alone = 0;  // its own score
  double mixed = 0;  // of the mean of those kept before and it
  bool is_kept = false;
};

// The score of the mean of some candidates, each named once, ascending.
using SoupScorer =
    std::function<absl::StatusOr<double>(absl::Span<const size_t> members)>;

// Greedy soup (arXiv 2203.05482, recipe 1): candidates from the best to the
// worst by their own scores, each kept when the mean of those kept and it
// scores no worse than the mean without it. Of equal scores the earlier
// candidate comes first. Scores `candidates` + `candidates` - 1 times. Trials
// come in the order in which they were made. INVALID_ARGUMENT without a
// candidate.
absl::StatusOr<std::vector<SoupTrial>> CookGreedySoup(
    size_t candidates, bool higher_is_better, const SoupScorer& score);

// The candidates that were kept, ascending.
std::vector<size_t> MembersOf(absl::Span<const SoupTrial> trials);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_GREEDY_SOUP_H_
