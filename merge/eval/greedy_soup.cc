#include "merge/eval/greedy_soup.h"

#include <algorithm>
#include <numeric>

#include "core/base/status_macros.h"

namespace cairn {

absl::StatusOr<std::vector<SoupTrial>> CookGreedySoup(size_t candidates,
                                                      bool higher_is_better,
                                                      const SoupScorer& score) {
  if (candidates == 0) {
    return absl::InvalidArgumentError("a soup needs a candidate at least");
  }
  const auto is_worse = [&](double a, double b) {
    return higher_is_better ? a < b : a > b;
  };
  std::vector<SoupTrial> trials(candidates);
  for (size_t i = 0; i < candidates; ++i) {
    trials[i].candidate = i;
    CAIRN_ASSIGN_OR_RETURN(trials[i].alone, score({i}));
  }
  std::stable_sort(trials.begin(), trials.end(),
                   [&](const SoupTrial& a, const SoupTrial& b) {
                     return is_worse(b.alone, a.alone);
                   });
  double best = trials[0].alone;
  for (size_t t = 0; t < candidates; ++t) {
    SoupTrial& trial = trials[t];
    if (t == 0) {
      trial.mixed = trial.alone;
    } else {
      std::vector<size_t> members =
          MembersOf(absl::MakeConstSpan(trials).subspan(0, t));
      members.push_back(trial.candidate);
      std::sort(members.begin(), members.end());
      CAIRN_ASSIGN_OR_RETURN(trial.mixed, score(members));
    }
    trial.is_kept = !is_worse(trial.mixed, best);
    if (trial.is_kept) best = trial.mixed;
  }
  return trials;
}

std::vector<size_t> MembersOf(absl::Span<const SoupTrial> trials) {
  std::vector<size_t> members;
  for (const SoupTrial& trial : trials) {
    if (trial.is_kept) members.push_back(trial.candidate);
  }
  std::sort(members.begin(), members.end());
  return members;
}

}  // namespace cairn
