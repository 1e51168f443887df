#include "server/queue/bisection.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace cairn {
namespace {

using store::v1::TrialRecord;
using Members = std::vector<std::string>;

class Bisection {
 public:
  explicit Bisection(absl::Span<const TrialRecord* const> trials)
      : trials_(trials) {}

  BisectionPlan Run(const Members& all) {
    Members keep;
    if (Resolve(all, keep)) {
      plan_.keep = std::move(keep);
      auto by_queue_order = [&](const std::string& a, const std::string& b) {
        return std::find(all.begin(), all.end(), a) <
               std::find(all.begin(), all.end(), b);
      };
      for (Members* list : {&plan_.keep, &plan_.culprits, &plan_.held}) {
        std::sort(list->begin(), list->end(), by_queue_order);
      }
    }
    return std::move(plan_);
  }

 private:
  struct Tally {
    int passed = 0;
    int failed = 0;
  };

  Tally Count(const Members& members) const {
    Tally tally;
    for (const TrialRecord* trial : trials_) {
      if (!std::equal(trial->contributions().begin(),
                      trial->contributions().end(), members.begin(),
                      members.end())) {
        continue;
      }
      if (trial->outcome() == TrialRecord::PASSED) ++tally.passed;
      if (trial->outcome() == TrialRecord::FAILED) ++tally.failed;
    }
    return tally;
  }

  // False when a trial is needed first: plan_.next says which.
  bool Ask(const Members& members, bool repeats) {
    plan_.next = members;
    plan_.repeats = repeats;
    return false;
  }

  // Finds the members of `group` to keep; they pass together, or none is left.
  bool Resolve(const Members& group, Members& keep) {
    const Tally tally = Count(group);
    if (tally.passed > 0) {
      keep = group;
      return true;
    }
    if (tally.failed == 0) return Ask(group, /*repeats=*/false);
    if (group.size() == 1) {
      if (tally.failed == 1) return Ask(group, /*repeats=*/true);
      plan_.culprits.push_back(group.front());
      return true;
    }
    const auto middle =
        group.begin() + static_cast<Members::difference_type>(group.size() / 2);
    Members earlier, later;
    if (!Resolve(Members(group.begin(), middle), earlier)) return false;
    if (!Resolve(Members(middle, group.end()), later)) return false;
    return Join(group, std::move(earlier), std::move(later), keep);
  }

  bool Join(const Members& group, Members earlier, Members later,
            Members& keep) {
    if (earlier.empty() || later.empty()) {
      keep = earlier.empty() ? std::move(later) : std::move(earlier);
      return true;
    }
    Members both = earlier;
    both.insert(both.end(), later.begin(), later.end());
    // The whole group failed: that is why its halves were tried.
    if (both.size() < group.size()) {
      const Tally tally = Count(both);
      if (tally.passed == 0 && tally.failed == 0) {
        return Ask(both, /*repeats=*/false);
      }
      if (tally.passed > 0) {
        keep = std::move(both);
        return true;
      }
    }
    plan_.held.insert(plan_.held.end(), later.begin(), later.end());
    keep = std::move(earlier);
    return true;
  }

  absl::Span<const TrialRecord* const> trials_;
  BisectionPlan plan_;
};

}  // namespace

BisectionPlan PlanBisection(absl::Span<const TrialRecord* const> trials) {
  CAIRN_CHECK(!trials.empty());
  const auto& all = trials.front()->contributions();
  return Bisection(trials).Run(Members(all.begin(), all.end()));
}

}  // namespace cairn
