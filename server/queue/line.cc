#include "server/queue/line.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using store::v1::LineStep;
using store::v1::ReleaseRecord;

bool Holds(const LineStep& step, absl::string_view contribution) {
  return std::any_of(step.contributions().begin(), step.contributions().end(),
                     [&](const std::string& name) {
                       return absl::string_view(name) == contribution;
                     });
}

// A step whose result is to be made anew.
LineStep Again(LineStep step) {
  step.clear_release();
  step.clear_digest();
  return step;
}

// Begins with the last published state before step `until`; the steps from
// there up to `until` are to be merged again.
LinePlan PlanUpTo(const ReleaseRecord& release, int until) {
  LinePlan plan;
  plan.start = release.root_release();
  int from = 0;
  for (int i = 0; i < until; ++i) {
    if (release.line(i).release().empty()) continue;
    plan.start = release.line(i).release();
    from = i + 1;
  }
  for (int i = 0; i < from; ++i) plan.reached.push_back(release.line(i));
  for (int i = from; i < until; ++i) {
    plan.remaining.push_back(Again(release.line(i)));
  }
  return plan;
}

}  // namespace

absl::StatusOr<LinePlan> PlanWithout(const ReleaseRecord& release,
                                     absl::string_view contribution) {
  int at = 0;
  while (at < release.line_size() && !Holds(release.line(at), contribution)) {
    ++at;
  }
  if (at == release.line_size()) {
    return absl::FailedPreconditionError(
        absl::StrCat(contribution, " is not part of the line of ",
                     release.release().name()));
  }
  LinePlan plan = PlanUpTo(release, at);
  for (int i = at; i < release.line_size(); ++i) {
    LineStep step = Again(release.line(i));
    auto& members = *step.mutable_contributions();
    members.erase(std::remove_if(members.begin(), members.end(),
                                 [&](const std::string& name) {
                                   return absl::string_view(name) ==
                                          contribution;
                                 }),
                  members.end());
    if (!members.empty()) plan.remaining.push_back(std::move(step));
  }
  return plan;
}

absl::StatusOr<LinePlan> PlanReplay(const ReleaseRecord& release) {
  if (release.origin() == ReleaseRecord::IMPORTED) {
    return absl::FailedPreconditionError(
        absl::StrCat(release.release().name(),
                     " was imported, not merged: there is nothing to repeat"));
  }
  if (release.line_size() == 0) {
    return LinePlan{
        .start = release.root_release(), .reached = {}, .remaining = {}};
  }
  const int last = release.line_size() - 1;
  LinePlan plan = PlanUpTo(release, last);
  plan.remaining.push_back(Again(release.line(last)));
  return plan;
}

}  // namespace cairn
