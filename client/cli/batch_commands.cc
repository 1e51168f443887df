#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cairn/v1/batch.grpc.pb.h"
#include "client/cli/attribution_view.h"
#include "client/cli/batch_view.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/update/strategies.h"

namespace cairn::cli {

std::string DescribeBatch(const v1::Batch& batch) {
  std::string out =
      absl::StrCat("name      ", batch.name(), "\nstate     ",
                   v1::Batch::State_Name(batch.state()), "\npurpose   ",
                   v1::Batch::Purpose_Name(batch.purpose()), "\nstrategy  ",
                   batch.strategy());
  for (const auto& [key, value] : batch.parameters()) {
    absl::StrAppend(&out, ", ", key, " ", value);
  }
  if (batch.has_release()) {
    absl::StrAppend(&out, "\nrelease   ", ShortName(batch.release()));
  }
  if (!batch.waiting_for().empty()) {
    absl::StrAppend(&out, "\nwaits     ", batch.waiting_for());
  }
  for (const std::string& name : batch.contributions()) {
    absl::StrAppend(&out, "\n  ", name);
  }
  for (const v1::SearchPoint& point : batch.search()) {
    absl::StrAppendFormat(&out, "\n  lambda %g: mean gain %+.4f%s",
                          point.lambda(), point.mean_gain(),
                          point.excluded() ? " (hurts a protected suite)" : "");
  }
  absl::StrAppend(&out, DescribeReports(batch.reports()),
                  DescribeAttribution(batch.attribution()));
  for (const std::string& step : batch.bisection()) {
    absl::StrAppend(&out, "\n  ", step);
  }
  absl::StrAppend(&out, DescribeReasons(batch.reasons()));
  return out;
}

namespace {

using v1::BatchService;

struct StartOptions {
  std::string model;
  std::string strategy;
  std::vector<std::string> parameters;
};

struct BatchOptions {
  std::string name;
};

absl::Status StartBatch(Session& session, const StartOptions& options) {
  v1::StartBatchRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.model));
  request.set_strategy(options.strategy);
  for (const std::string& parameter : options.parameters) {
    std::pair<std::string, std::string> pair =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    if (pair.first.empty() || pair.second.empty()) {
      return UsageError(
          absl::StrCat("--param ", parameter, ": must be KEY=VALUE"));
    }
    (*request.mutable_parameters())[pair.first] = pair.second;
  }
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Batch batch,
                         hub->Call(&BatchService::Stub::StartBatch, request));
  PrintResource(session, batch, [&] { return DescribeBatch(batch); });
  return absl::OkStatus();
}

absl::Status ListBatches(Session& session, const BatchOptions& options) {
  v1::ListBatchesRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_parent(), ModelName(options.name));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto batches, ListAll(*hub, &BatchService::Stub::ListBatches, request));
  PrintList(session, batches, [&] {
    Table table(
        {"BATCH", "STATE", "STRATEGY", "MEMBERS", "RELEASE", "CREATED"});
    for (const v1::Batch& batch : batches) {
      table.Add({batch.name(), v1::Batch::State_Name(batch.state()),
                 batch.strategy(), absl::StrCat(batch.contributions_size()),
                 ShortName(batch.release()), FormatTime(batch.create_time())});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::Status ShowBatch(Session& session, const BatchOptions& options) {
  v1::GetBatchRequest request;
  CAIRN_ASSIGN_OR_RETURN(*request.mutable_name(),
                         ItemName(options.name, "batches"));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Batch batch,
                         hub->Call(&BatchService::Stub::GetBatch, request));
  PrintResource(session, batch, [&] { return DescribeBatch(batch); });
  return absl::OkStatus();
}

}  // namespace

void AddBatchCommands(CommandLine& root) {
  CommandLine batch = root.Group("batch", "Batches: what is merged together");
  batch.Add<StartOptions>(
      "start", "Merge what is queued and not held",
      "cairn batch start tiny-llama --strategy ties --param density=0.2",
      [](Parameters& p, StartOptions& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Option("--strategy", o.strategy,
                 StrategyNames() + " (default: the policy's)");
        p.Option("--param", o.parameters,
                 "Parameter of the strategy, KEY=VALUE; lambda=X fixes lambda");
      },
      StartBatch);
  batch.Add<BatchOptions>(
      "list", "List the batches of a model", "cairn batch list tiny-llama",
      [](Parameters& p, BatchOptions& o) {
        p.Argument("MODEL", o.name, "The model");
      },
      ListBatches);
  batch.Add<BatchOptions>(
      "show", "Show a batch", "cairn batch show models/tiny-llama/batches/b1",
      [](Parameters& p, BatchOptions& o) {
        p.Argument("BATCH", o.name, "The batch");
      },
      ShowBatch);
}

}  // namespace cairn::cli
