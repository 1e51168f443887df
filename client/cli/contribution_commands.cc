#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/release.grpc.pb.h"
#include "client/cli/batch_view.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::ContributionService;

struct StatusOptions {
  std::string contribution;
  std::string wait;
};

struct ListOptions {
  std::string model;
  std::vector<std::string> states;
  int64_t limit = 0;
};

struct NoteOptions {
  std::string contribution;
  std::string note;
};

absl::Status ShowStatus(Session& session, const StatusOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string name,
                         ItemName(options.contribution, "contributions"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution contribution,
                         GetContribution(*hub, name));
  if (!options.wait.empty()) {
    if (options.wait != "true" && options.wait != "released") {
      return UsageError(absl::StrCat("--wait=", options.wait,
                                     ": must be --wait or --wait=released"));
    }
    CAIRN_ASSIGN_OR_RETURN(
        contribution,
        AwaitContribution(
            session, *hub, std::move(contribution),
            options.wait == "true" ? WaitFor::kVetted : WaitFor::kReleased));
    if (contribution.state() == v1::Contribution::REJECTED) {
      session.set_exit_code(6);
    }
  }
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

absl::Status List(Session& session, const ListOptions& options) {
  v1::ListContributionsRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  for (const std::string& text : options.states) {
    v1::Contribution::State state = v1::Contribution::STATE_UNSPECIFIED;
    if (!v1::Contribution::State_Parse(absl::AsciiStrToUpper(text), &state)) {
      return UsageError(absl::StrCat("--state ", text,
                                     ": no such state; e.g. QUEUED, "
                                     "NEEDS_REVIEW, RELEASED, REJECTED"));
    }
    request.add_states(state);
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto items, ListAll(*hub, &ContributionService::Stub::ListContributions,
                          request, options.limit));
  PrintList(session, items, [&] { return ContributionTable(session, items); });
  return absl::OkStatus();
}

absl::Status Withdraw(Session& session, const StatusOptions& options) {
  v1::WithdrawContributionRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.contribution, "contributions"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      v1::Contribution contribution,
      hub->Call(&ContributionService::Stub::WithdrawContribution, request,
                {.retry = Retry::kUnsent}));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

absl::Status Revert(Session& session, const NoteOptions& options) {
  v1::RevertContributionRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.contribution, "contributions"));
  request.set_note(options.note);
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      v1::Batch batch,
      hub->Call(&v1::ReleaseService::Stub::RevertContribution, request));
  PrintResource(session, batch, [&] { return DescribeBatch(batch); });
  return absl::OkStatus();
}

}  // namespace

void AddContributionCommands(CommandLine& root) {
  root.Add<StatusOptions>(
      "status", "Show a contribution and what was decided about it",
      "cairn status models/tiny-llama/contributions/c1 --wait",
      [](Parameters& p, StatusOptions& o) {
        p.Argument("CONTRIBUTION", o.contribution, "The contribution");
        p.Flag("--wait", o.wait,
               "Wait until it is vetted; --wait=released: until it is "
               "released or refused");
      },
      ShowStatus);
  CommandLine contribution = root.Group("contribution", "Contributions");
  contribution.Add<ListOptions>(
      "list", "List the contributions of a model",
      "cairn contribution list tiny-llama --state QUEUED",
      [](Parameters& p, ListOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Option("--state", o.states, "Only in this state; may be repeated");
        p.Option("--limit", o.limit, "At most so many");
      },
      List);
  root.Add<StatusOptions>(
      "withdraw", "Take a contribution of yours back",
      "cairn withdraw models/tiny-llama/contributions/c1",
      [](Parameters& p, StatusOptions& o) {
        p.Argument("CONTRIBUTION", o.contribution, "The contribution");
      },
      Withdraw);
  root.Add<NoteOptions>(
      "revert", "Take a released contribution out of the line again",
      "cairn revert models/tiny-llama/contributions/c1 "
      "--note 'licence withdrawn'",
      [](Parameters& p, NoteOptions& o) {
        p.Argument("CONTRIBUTION", o.contribution, "The contribution");
        p.RequiredOption("--note", o.note, "Why");
      },
      Revert);
}

}  // namespace cairn::cli
