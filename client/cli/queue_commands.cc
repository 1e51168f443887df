#include "absl/strings/str_cat.h"
#include "cairn/v1/queue.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::QueueService;

struct QueueOptions {
  std::string name;
  std::string before;
};

absl::Status ShowQueue(Session& session, const QueueOptions& options) {
  v1::ListQueueRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.name));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto items, ListAll(*hub, &QueueService::Stub::ListQueue, request));
  PrintList(session, items, [&] { return ContributionTable(session, items); });
  return absl::OkStatus();
}

template <typename Method>
absl::Status Edit(Session& session, const QueueOptions& options,
                  Method method) {
  v1::QueueEditRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.name, "contributions"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution before,
                         GetContribution(*hub, request.name()));
  request.set_etag(before.etag());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution contribution,
                         hub->Call(method, request, {.retry = Retry::kUnsent}));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

absl::Status Move(Session& session, const QueueOptions& options) {
  v1::MoveRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.name, "contributions"));
  if (!options.before.empty()) {
    CAIRN_ASSIGN_OR_RETURN(*request.mutable_before(),
                           ItemName(options.before, "contributions"));
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Contribution before,
                         GetContribution(*hub, request.name()));
  request.set_etag(before.etag());
  CAIRN_ASSIGN_OR_RETURN(
      v1::Contribution contribution,
      hub->Call(&QueueService::Stub::Move, request, {.retry = Retry::kUnsent}));
  PrintContribution(session, contribution);
  return absl::OkStatus();
}

void DeclareContribution(Parameters& p, QueueOptions& o) {
  p.Argument("CONTRIBUTION", o.name, "The contribution");
}

}  // namespace

void AddQueueCommands(CommandLine& root) {
  CommandLine queue = root.Group("queue", "What waits to be merged");
  queue.Add<QueueOptions>(
      "show", "Show the queue of a model, next first",
      "cairn queue show tiny-llama",
      [](Parameters& p, QueueOptions& o) {
        p.Argument("MODEL", o.name, "The model");
      },
      ShowQueue);
  queue.Add<QueueOptions>("hold", "Keep a contribution out of batches",
                          "cairn queue hold models/tiny-llama/contributions/c1",
                          DeclareContribution,
                          [](Session& session, const QueueOptions& o) {
                            return Edit(session, o, &QueueService::Stub::Hold);
                          });
  queue.Add<QueueOptions>(
      "release", "Let a held contribution be merged again",
      "cairn queue release models/tiny-llama/contributions/c1",
      DeclareContribution, [](Session& session, const QueueOptions& o) {
        return Edit(session, o, &QueueService::Stub::Unhold);
      });
  queue.Add<QueueOptions>(
      "move", "Move a contribution before another",
      "cairn queue move models/tiny-llama/contributions/c2 "
      "--before models/tiny-llama/contributions/c1",
      [](Parameters& p, QueueOptions& o) {
        DeclareContribution(p, o);
        p.Option("--before", o.before, "To stand before (default: last)");
      },
      Move);
}

}  // namespace cairn::cli
