#include "server/gate/attribution.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/flow/job_records.h"
#include "server/flow/resource_names.h"
#include "server/gate/score_book.h"

namespace cairn {
namespace {

using google::protobuf::RepeatedPtrField;
using store::v1::SuiteRecord;
using v1::Attribution;

using Effects = RepeatedPtrField<Attribution::Effect>;

Effects EffectsOf(const std::vector<GateSuite>& suites) {
  Effects out;
  for (const GateSuite& suite : suites) {
    Attribution::Effect& effect = *out.Add();
    effect.set_suite(suite.name);
    effect.set_gain(suite.difference.gain());
    effect.set_standard_error(suite.difference.standard_error());
    effect.set_rounding_step(suite.difference.RoundingStep(suite.margin));
  }
  return out;
}

Attribution::Member MemberOf(const std::string& contribution,
                             const std::vector<GateSuite>& pairs,
                             const v1::Policy& policy) {
  Attribution::Member member;
  member.set_contribution(contribution);
  *member.mutable_effects() = EffectsOf(pairs);
  member.set_adds_nothing(!ShowsGain(pairs, policy.alpha()));
  return member;
}

void Round(Effects& effects) {
  for (Attribution::Effect& effect : effects) {
    effect.clear_standard_error();
    const double step = effect.rounding_step();
    // Adding zero turns a negative zero, which reads as a loss, into zero.
    if (step > 0)
      effect.set_gain(std::round(effect.gain() / step) * step + 0.0);
  }
}

}  // namespace

absl::StatusOr<Attribution> MakeAttribution(const HubReader& reader,
                                            const v1::SearchSpec& spec,
                                            const v1::JobResult& result,
                                            const v1::Policy& policy) {
  const v1::SearchResult& found = result.search();
  const int left_out = spec.leave_one_out() ? spec.updates_size() : 0;
  if (found.points_size() != 1 || found.without_size() != left_out) {
    return absl::FailedPreconditionError(
        "the worker did not score the parts of the merge: update it");
  }
  std::vector<SuiteRecord> suites;
  for (const v1::SuiteInput& input : spec.suites()) {
    CAIRN_ASSIGN_OR_RETURN(auto suite, reader.Get<SuiteRecord>(SuiteVersionName(
                                           input.suite(), input.version())));
    suites.push_back(std::move(suite));
  }
  const ScoreKey head{.digest = DigestOf(spec.head()),
                      .device_class = result.device_class(),
                      .dtype = spec.dtype()};
  auto pair = [&](const auto& before, const auto& after) {
    return PairScores(reader, head, before, after, suites, "search", policy,
                      {});
  };
  const auto& whole = found.points(0).scores();
  Attribution out;
  CAIRN_ASSIGN_OR_RETURN(auto merge, pair(found.base(), whole));
  *out.mutable_merge() = EffectsOf(merge);
  CAIRN_ASSIGN_OR_RETURN(auto placebo, pair(found.base(), found.placebo()));
  *out.mutable_placebo() = EffectsOf(placebo);
  if (spec.updates_size() == 1) {
    *out.add_members() =
        MemberOf(spec.updates(0).contribution(), merge, policy);
  }
  for (int i = 0; i < left_out; ++i) {
    const std::string& name = spec.updates(i).contribution();
    if (found.without(i).contribution() != name) {
      return absl::FailedPreconditionError(
          absl::StrCat("the result has no scores of the merge without ", name));
    }
    CAIRN_ASSIGN_OR_RETURN(auto with, pair(found.without(i).scores(), whole));
    *out.add_members() = MemberOf(name, with, policy);
  }
  return out;
}

Attribution Rounded(const Attribution& attribution) {
  Attribution out = attribution;
  Round(*out.mutable_merge());
  Round(*out.mutable_placebo());
  for (Attribution::Member& member : *out.mutable_members()) {
    Round(*member.mutable_effects());
  }
  return out;
}

}  // namespace cairn
