#include "absl/strings/str_cat.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/review.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::ReviewService;

struct ListOptions {
  std::string model;
};

struct ReviewOptions {
  std::string contribution;
  std::string note;
  std::string digest;
};

SeenReview Seen(const v1::Contribution& contribution) {
  SeenReview seen{.etag = contribution.etag(),
                  .digest = contribution.digest(),
                  .report_ids = {}};
  for (const v1::Report& report : contribution.reports()) {
    if (!report.id().empty()) seen.report_ids.push_back(report.id());
  }
  return seen;
}

absl::StatusOr<v1::Contribution> GetReview(HubChannel& hub,
                                           const std::string& name) {
  v1::GetReviewRequest request;
  request.set_name(name);
  return hub.Call(&ReviewService::Stub::GetReview, request);
}

absl::Status ListReviews(Session& session, const ListOptions& options) {
  v1::ListContributionsRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  request.add_states(v1::Contribution::NEEDS_REVIEW);
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto items,
      ListAll(*hub, &v1::ContributionService::Stub::ListContributions,
              request));
  PrintList(session, items, [&] { return ContributionTable(session, items); });
  return absl::OkStatus();
}

absl::Status ShowReview(Session& session, const ReviewOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(std::string name,
                         ItemName(options.contribution, "contributions"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution contribution, GetReview(*hub, name));
  CAIRN_RETURN_IF_ERROR(
      session.home().RememberReview(name, Seen(contribution)));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

// What the decision is about: what was shown last, or what is there now.
absl::StatusOr<SeenReview> WhatWasSeen(Session& session, HubChannel& hub,
                                       const std::string& name,
                                       const std::string& digest) {
  CAIRN_ASSIGN_OR_RETURN(std::optional<SeenReview> seen,
                         session.home().RecallReview(name));
  if (!seen.has_value() || !digest.empty()) {
    CAIRN_ASSIGN_OR_RETURN(v1::Contribution now, GetReview(hub, name));
    seen = Seen(now);
  }
  if (!digest.empty()) seen->digest = digest;
  return *seen;
}

template <typename Method>
absl::Status Decide(Session& session, const ReviewOptions& options,
                    Method method) {
  v1::ReviewRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.contribution, "contributions"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      SeenReview seen,
      WhatWasSeen(session, *hub, request.name(), options.digest));
  request.set_etag(seen.etag);
  request.set_digest(seen.digest);
  for (const std::string& id : seen.report_ids) request.add_report_ids(id);
  request.set_note(options.note);
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution contribution,
                         hub->Call(method, request, {.retry = Retry::kUnsent}));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

absl::Status Comment(Session& session, const ReviewOptions& options) {
  v1::AddCommentRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.contribution, "contributions"));
  request.set_text(options.note);
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution contribution,
                         hub->Call(&ReviewService::Stub::AddComment, request));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

void DeclareDecision(Parameters& p, ReviewOptions& o) {
  p.Argument("CONTRIBUTION", o.contribution, "The contribution");
  p.Option("--digest", o.digest,
           "Digest of the update that you looked at (default: that of the "
           "last `review show`)");
}

}  // namespace

void AddReviewCommands(CommandLine& root) {
  CommandLine review = root.Group("review", "What people decide");
  review.Add<ListOptions>(
      "list", "List what waits for a review", "cairn review list tiny-llama",
      [](Parameters& p, ListOptions& o) {
        p.Argument("MODEL", o.model, "The model");
      },
      ListReviews);
  review.Add<ReviewOptions>(
      "show", "Show a contribution with exact figures",
      "cairn review show models/tiny-llama/contributions/c1",
      [](Parameters& p, ReviewOptions& o) {
        p.Argument("CONTRIBUTION", o.contribution, "The contribution");
      },
      ShowReview);
  review.Add<ReviewOptions>(
      "approve", "Approve what `review show` showed",
      "cairn review approve models/tiny-llama/contributions/c1 "
      "--note 'looks right'",
      [](Parameters& p, ReviewOptions& o) {
        DeclareDecision(p, o);
        p.Option("--note", o.note, "Why");
      },
      [](Session& session, const ReviewOptions& o) {
        return Decide(session, o, &ReviewService::Stub::Approve);
      });
  review.Add<ReviewOptions>(
      "reject", "Reject what `review show` showed",
      "cairn review reject models/tiny-llama/contributions/c1 "
      "--note 'data of unknown origin'",
      [](Parameters& p, ReviewOptions& o) {
        DeclareDecision(p, o);
        p.RequiredOption("--note", o.note, "Why");
      },
      [](Session& session, const ReviewOptions& o) {
        return Decide(session, o, &ReviewService::Stub::Reject);
      });
  review.Add<ReviewOptions>(
      "comment", "Say something about a contribution",
      "cairn review comment models/tiny-llama/contributions/c1 "
      "'which data was this?'",
      [](Parameters& p, ReviewOptions& o) {
        p.Argument("CONTRIBUTION", o.contribution, "The contribution");
        p.Argument("TEXT", o.note, "The comment");
      },
      Comment);
}

}  // namespace cairn::cli
