#include "client/cli/contribution_view.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "client/cli/output.h"
#include "client/names.h"
#include "client/progress.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::Contribution;

// Lasts over a restart of the hub.
constexpr CallOptions kPatient = {.patience = absl::Minutes(2)};

bool IsVetted(Contribution::State state) {
  return state != Contribution::RECEIVED && state != Contribution::SCREENED &&
         state != Contribution::EVALUATED;
}

bool IsAtRest(Contribution::State state) {
  return state == Contribution::RELEASED || state == Contribution::REJECTED ||
         state == Contribution::WITHDRAWN ||
         state == Contribution::SUPERSEDED || state == Contribution::REVERTED;
}

std::string ColorOf(Contribution::State state) {
  switch (state) {
    case Contribution::RELEASED:
    case Contribution::QUEUED:
      return "32";
    case Contribution::REJECTED:
    case Contribution::REVERTED:
      return "31";
    case Contribution::NEEDS_REVIEW:
      return "33";
    default:
      return "";
  }
}

std::string StateText(const Session& session, const Contribution& c) {
  return absl::StrCat(
      session.Colored(Contribution::State_Name(c.state()), ColorOf(c.state())),
      c.held() ? " (held)" : "");
}

}  // namespace

std::string DescribeReasons(
    const google::protobuf::RepeatedPtrField<v1::Reason>& reasons) {
  std::string out;
  for (const v1::Reason& reason : reasons) {
    absl::StrAppend(&out, "\n    ", v1::Reason::Code_Name(reason.code()), ": ",
                    reason.message());
  }
  return out;
}

std::string DescribeReports(
    const google::protobuf::RepeatedPtrField<v1::Report>& reports) {
  std::string out;
  for (const v1::Report& report : reports) {
    absl::StrAppend(&out, "\n  ", ShortName(report.suite()), " (",
                    report.split(), "): ");
    if (report.rounded() && report.has_told_gain()) {
      absl::StrAppendFormat(&out, "gain of at least %.3g", report.told_gain());
      continue;
    }
    if (report.rounded()) {
      absl::StrAppend(&out, "figures are for reviewers");
      continue;
    }
    absl::StrAppendFormat(&out, "%s %.4f -> %.4f (%+.4f", report.metric(),
                          report.base(), report.candidate(),
                          report.difference());
    if (report.confidence_interval_size() == 2) {
      absl::StrAppendFormat(&out, ", %+.4f to %+.4f",
                            report.confidence_interval(0),
                            report.confidence_interval(1));
    }
    absl::StrAppendFormat(&out, ") over %d items", report.items());
    if (report.minimum_detectable_effect() > 0) {
      absl::StrAppendFormat(&out, "; shows gains of %.2g %% and more",
                            100 * report.minimum_detectable_effect());
    }
    if (report.margin() > 0) {
      absl::StrAppendFormat(&out, ", gain %+.2f%%, may lose %.2f%%",
                            100 * report.gain(), 100 * report.margin());
    }
  }
  return out;
}

std::string DescribeFindings(
    const google::protobuf::RepeatedPtrField<v1::Finding>& findings) {
  std::string out;
  for (const v1::Finding& finding : findings) {
    absl::StrAppendFormat(&out, "\n  screen %s: %.3g of %.3g%s, %s",
                          finding.screen(), finding.score(), finding.limit(),
                          finding.anomaly() ? " (anomaly)" : "",
                          finding.evidence());
  }
  return out;
}

std::string DescribeContribution(const Session& session,
                                 const Contribution& c) {
  const bool is_dry_run = c.name().empty();
  std::string out =
      is_dry_run ? "sound; nothing was contributed"
                 : absl::StrCat(session.Colored(c.name(), "1"),
                                c.title().empty() ? "" : "  ", c.title(),
                                "\nstate    ", StateText(session, c),
                                "\nauthor   ", ShortName(c.author()), ", ",
                                FormatTime(c.create_time()), " UTC");
  absl::StrAppend(&out, "\nbase     ", ShortName(c.base_release()),
                  c.base_inferred() ? " (guessed)" : "", "\nupdate   ",
                  v1::Encoding::Kind_Name(c.encoding()), ", ",
                  FormatBytes(c.size_bytes()), ", ", ShortDigest(c.digest()),
                  ", ", c.license());
  if (!c.claims().empty()) {
    absl::StrAppend(&out, "\nclaims   ", absl::StrJoin(c.claims(), ", "));
  }
  if (c.has_release()) {
    absl::StrAppend(&out, "\nrelease  ", ShortName(c.release()));
  }
  if (!c.waiting_for().empty()) {
    absl::StrAppend(&out, "\nwaits    ", c.waiting_for());
  }
  if (c.has_attempts_left()) {
    absl::StrAppend(&out, "\nattempts ", c.attempts_left(), " left today");
  }
  for (const v1::Verdict& verdict : c.verdicts()) {
    absl::StrAppend(&out, "\n  ", verdict.stage(), ": ",
                    v1::Verdict::Decision_Name(verdict.decision()),
                    verdict.reviewer().empty() ? "" : " by ",
                    ShortName(verdict.reviewer()),
                    DescribeReasons(verdict.reasons()));
  }
  absl::StrAppend(&out, DescribeFindings(c.findings()),
                  DescribeReports(c.reports()));
  for (const v1::Comment& comment : c.comments()) {
    absl::StrAppend(&out, "\n  ", ShortName(comment.author()), ": ",
                    comment.text());
  }
  return out;
}

std::string ContributionTable(const Session& session,
                              const std::vector<Contribution>& items) {
  Table table({"CONTRIBUTION", "STATE", "AUTHOR", "BASE", "ENCODING", "SIZE",
               "CLAIMS", "CREATED"});
  for (const Contribution& c : items) {
    table.Add({c.name(), StateText(session, c), ShortName(c.author()),
               ShortName(c.base_release()),
               v1::Encoding::Kind_Name(c.encoding()),
               FormatBytes(c.size_bytes()), absl::StrJoin(c.claims(), ","),
               FormatTime(c.create_time())});
  }
  return table.Render();
}

absl::StatusOr<Contribution> GetContribution(HubChannel& hub,
                                             const std::string& name) {
  v1::GetContributionRequest request;
  request.set_name(name);
  return hub.Call(&v1::ContributionService::Stub::GetContribution, request);
}

absl::StatusOr<Contribution> AwaitContribution(const Session& session,
                                               HubChannel& hub,
                                               Contribution contribution,
                                               WaitFor until) {
  v1::GetContributionRequest request;
  request.set_name(contribution.name());
  std::string told;
  absl::Duration pause = absl::Milliseconds(100);
  while (until == WaitFor::kVetted ? !IsVetted(contribution.state())
                                   : !IsAtRest(contribution.state())) {
    std::string now =
        absl::StrCat(ShortName(contribution.name()), ": ",
                     Contribution::State_Name(contribution.state()),
                     contribution.waiting_for().empty() ? "" : ", waits for ",
                     contribution.waiting_for());
    if (now != told) session.Note(now);
    told = std::move(now);
    CAIRN_RETURN_IF_ERROR(hub.Sleep(pause));
    pause = std::min(pause * 1.5, absl::Seconds(1));
    CAIRN_ASSIGN_OR_RETURN(
        contribution, hub.Call(&v1::ContributionService::Stub::GetContribution,
                               request, kPatient));
  }
  return contribution;
}

void PrintContribution(Session& session, const Contribution& contribution) {
  PrintResource(session, contribution,
                [&] { return DescribeContribution(session, contribution); });
}

}  // namespace cairn::cli
