#include "server/gate/score_book.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/flow/resource_names.h"
#include "server/gate/look.h"

namespace cairn {
namespace {

using google::protobuf::RepeatedPtrField;
using store::v1::BaseScoresRecord;
using store::v1::SuiteRecord;
using v1::SplitScores;

const SplitScores* FindSplit(const RepeatedPtrField<SplitScores>& scores,
                             const v1::Suite& suite, absl::string_view split) {
  for (const SplitScores& s : scores) {
    if (s.suite() == suite.name() && s.suite_version() == suite.version() &&
        absl::string_view(s.split()) == split) {
      return &s;
    }
  }
  return nullptr;
}

absl::Status Missing(const v1::Suite& suite, absl::string_view split,
                     absl::string_view side) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the result has no scores of the ", side, " on ", suite.name(),
      " version ", suite.version(), " (", split, ")"));
}

// Items that a part names exist.
absl::Status CheckPart(const SplitScores& whole, const SplitScores& part) {
  for (const int32_t item : part.items()) {
    if (item < 0 || item >= whole.scores_size()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the result scores item ", item, " of ", part.suite(),
                       ", which has ", whole.scores_size()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RememberScores(HubTransaction& transaction, const ScoreKey& key,
                            const RepeatedPtrField<SplitScores>& scores) {
  for (const SplitScores& split : scores) {
    BaseScoresRecord record;
    record.set_digest(key.digest);
    record.set_device_class(key.device_class);
    record.set_dtype(key.dtype);
    *record.mutable_scores() = split;
    CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SplitScores>> FindScores(const HubReader& reader,
                                                      const ScoreKey& key,
                                                      absl::string_view suite,
                                                      int32_t version,
                                                      absl::string_view split) {
  BaseScoresRecord wanted;
  wanted.set_digest(key.digest);
  wanted.set_device_class(key.device_class);
  wanted.set_dtype(key.dtype);
  wanted.mutable_scores()->set_suite(std::string(suite));
  wanted.mutable_scores()->set_suite_version(version);
  wanted.mutable_scores()->set_split(std::string(split));
  CAIRN_ASSIGN_OR_RETURN(
      auto found,
      reader.Find<BaseScoresRecord>(Table<BaseScoresRecord>::Name(wanted)));
  if (!found.has_value()) return std::optional<SplitScores>();
  return std::optional<SplitScores>(std::move(*found->mutable_scores()));
}

absl::StatusOr<std::vector<GateSuite>> PairScores(
    const HubReader& reader, const ScoreKey& base,
    const RepeatedPtrField<SplitScores>& base_scores,
    const RepeatedPtrField<SplitScores>& candidate_scores,
    const std::vector<SuiteRecord>& suites, absl::string_view split,
    const v1::Policy& policy, const std::set<std::string>& claims) {
  std::vector<GateSuite> out;
  for (const SuiteRecord& record : suites) {
    const v1::Suite& suite = record.suite();
    const SplitScores* candidate = FindSplit(candidate_scores, suite, split);
    if (candidate == nullptr) return Missing(suite, split, "candidate");
    std::optional<SplitScores> kept;
    const SplitScores* before = FindSplit(base_scores, suite, split);
    if (before == nullptr) {
      CAIRN_ASSIGN_OR_RETURN(
          kept, FindScores(reader, base, suite.name(), suite.version(), split));
      if (!kept.has_value()) return Missing(suite, split, "base");
      before = &*kept;
    }
    SplitScores part;
    if (!candidate->items().empty()) {
      CAIRN_RETURN_IF_ERROR(CheckPart(*before, *candidate));
      part = PartOf(*before, candidate->items());
      before = &part;
    }
    CAIRN_ASSIGN_OR_RETURN(auto difference,
                           PairedDifference::Compare(*before, *candidate));
    out.push_back(
        {.name = suite.name(),
         .is_protected = suite.protected_(),
         .is_claimed = !suite.canary() &&
                       claims.contains(std::string(ShortName(suite.name()))),
         .is_canary = suite.canary(),
         .margin = MarginOf(record, policy),
         .gain_unit = GainUnitOf(suite.metric(), policy),
         .difference = std::move(difference)});
  }
  return out;
}

std::vector<v1::Report> MakeReports(const std::vector<GateSuite>& suites,
                                    double alpha,
                                    absl::string_view device_class) {
  std::vector<v1::Report> reports;
  for (const GateSuite& suite : suites) {
    reports.push_back(suite.difference.MakeReport(
        alpha, std::min(alpha, suite.claim_level), suite.margin, device_class));
  }
  return reports;
}

}  // namespace cairn
