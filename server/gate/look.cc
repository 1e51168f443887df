#include "server/gate/look.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/gate/paired_difference.h"

namespace cairn {
namespace {

// Groups of items (or items alone), in the order in which they are scored: by
// the digest of suite, version and group.
std::vector<std::vector<int32_t>> ShuffledGroups(const v1::SplitScores& whole) {
  std::map<std::string, std::vector<int32_t>> groups;
  for (int i = 0; i < whole.scores_size(); ++i) {
    const std::string group = whole.groups_size() > 0
                                  ? absl::StrCat("group ", whole.groups(i))
                                  : absl::StrCat("item ", i);
    groups[Digest::Of(absl::StrCat(whole.suite(), "/", whole.suite_version(),
                                   "/", group))
               .hex()]
        .push_back(i);
  }
  std::vector<std::vector<int32_t>> out;
  for (auto& [order, items] : groups) out.push_back(std::move(items));
  return out;
}

// Whether a claim that was not shown yet can be given up.
bool IsHopeless(const GateSuite& suite, int look) {
  return suite.is_claimed && !suite.is_canary &&
         suite.difference.CannotBeShown(
             kLooks[look].items, suite.claim_level * kLooks[kLastLook].level);
}

// No canary could still turn out to be learnt.
bool CanariesAreClear(absl::Span<const GateSuite> suites, double alpha) {
  return std::all_of(suites.begin(), suites.end(), [&](const GateSuite& suite) {
    return !suite.is_canary ||
           suite.difference.UpperBound(alpha) <= suite.margin;
  });
}

}  // namespace

std::vector<int32_t> ItemsOfLook(const v1::SplitScores& whole, int look) {
  const double total = whole.scores_size();
  const double from = look == 0 ? 0 : kLooks[look - 1].items * total;
  const double to = kLooks[look].items * total;
  std::vector<int32_t> out;
  double seen = 0;
  // A group belongs to the look in which its first item lies.
  for (const std::vector<int32_t>& group : ShuffledGroups(whole)) {
    if (seen >= from && seen < to) {
      out.insert(out.end(), group.begin(), group.end());
    }
    seen += static_cast<double>(group.size());
  }
  std::sort(out.begin(), out.end());
  return out;
}

v1::SplitScores PartOf(const v1::SplitScores& whole,
                       absl::Span<const int32_t> items) {
  v1::SplitScores out;
  out.set_suite(whole.suite());
  out.set_suite_version(whole.suite_version());
  out.set_split(whole.split());
  out.set_metric(whole.metric());
  double sum = 0, tokens = 0;
  for (const int32_t item : items) {
    out.add_scores(whole.scores(item));
    out.add_tokens(whole.tokens(item));
    if (whole.groups_size() > 0) out.add_groups(whole.groups(item));
    out.add_items(item);
    sum += whole.scores(item);
    tokens += static_cast<double>(whole.tokens(item));
  }
  const double all = std::accumulate(whole.scores().begin(),
                                     whole.scores().end(), 0.0);
  const double all_tokens = std::accumulate(whole.tokens().begin(),
                                            whole.tokens().end(), 0.0);
  // The metric at another mean score, the rest being as it is.
  const double ratio = all == 0 || tokens == 0
                           ? 1
                           : (sum / tokens) / (all / all_tokens);
  const bool is_linear = !IsLikelihoodMetric(whole.metric()) ||
                         whole.metric() == "bits_per_byte";
  out.set_value(is_linear ? whole.value() * ratio
                          : std::pow(whole.value(), ratio));
  return out;
}

absl::StatusOr<v1::SplitScores> JoinParts(
    absl::Span<const v1::SplitScores* const> parts) {
  struct Scored {
    const v1::SplitScores* part;
    int at;
  };
  std::map<int32_t, Scored> all;
  for (const v1::SplitScores* part : parts) {
    if (part->items_size() == 0 || part->items_size() != part->scores_size() ||
        part->tokens_size() != part->scores_size() ||
        (part->groups_size() > 0 &&
         part->groups_size() != part->scores_size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the scores of ", part->suite(), " are not those of a part"));
    }
    for (int i = 0; i < part->items_size(); ++i) {
      if (!all.emplace(part->items(i), Scored{part, i}).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("item ", part->items(i), " of ", part->suite(),
                         " was scored twice"));
      }
    }
  }
  if (parts.empty()) return absl::InvalidArgumentError("no part was scored");
  v1::SplitScores out;
  out.set_suite(parts[0]->suite());
  out.set_suite_version(parts[0]->suite_version());
  out.set_split(parts[0]->split());
  out.set_metric(parts[0]->metric());
  out.set_value(parts[0]->value());
  for (const auto& [item, scored] : all) {
    out.add_items(item);
    out.add_scores(scored.part->scores(scored.at));
    out.add_tokens(scored.part->tokens(scored.at));
    if (scored.part->groups_size() > 0) {
      out.add_groups(scored.part->groups(scored.at));
    }
  }
  return out;
}

std::vector<GateSuite> AtLook(absl::Span<const GateSuite> suites, int look) {
  std::vector<GateSuite> out(suites.begin(), suites.end());
  for (GateSuite& suite : out) suite.claim_level *= kLooks[look].level;
  return out;
}

std::optional<GateDecision> DecideLook(absl::Span<const GateSuite> suites,
                                       double alpha,
                                       v1::Verdict::Decision on_canary,
                                       int look) {
  const double spent = alpha * kLooks[look].level;
  const std::vector<GateSuite> now = AtLook(suites, look);
  GateDecision decision = DecideContribution(now, spent, on_canary);
  if (look == kLastLook) return decision;
  if (decision.decision == v1::Verdict::PASS) {
    if (!CanariesAreClear(now, spent)) return std::nullopt;
    return decision;
  }
  if (decision.decision == v1::Verdict::REVIEW) return std::nullopt;
  // A claim that is not shown yet speaks against nothing.
  std::vector<v1::Reason> sure;
  for (v1::Reason& reason : decision.reasons) {
    const auto suite =
        std::find_if(suites.begin(), suites.end(), [&](const GateSuite& s) {
          return s.name == reason.suite();
        });
    if (reason.code() != v1::Reason::CLAIM_NOT_SHOWN ||
        (suite != suites.end() && IsHopeless(*suite, look))) {
      sure.push_back(std::move(reason));
    }
  }
  if (sure.empty()) return std::nullopt;
  decision.reasons = std::move(sure);
  return decision;
}

}  // namespace cairn
