#include "server/queue/batch_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/update/strategies.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::ModelRecord;

// Members of one batch at most: bisection of more would take days.
constexpr size_t kMembersMax = 64;
constexpr size_t kQueueScanned = 10'000;
constexpr char kDefaultStrategy[] = "task_arithmetic";

// Besides what CompleteStrategy() checks, a hub's lambda is above 0.
absl::Status CheckStrategy(
    const std::string& strategy,
    const google::protobuf::Map<std::string, std::string>& parameters) {
  CAIRN_ASSIGN_OR_RETURN(
      const StrategyParameters complete,
      CompleteStrategy(strategy, {parameters.begin(), parameters.end()}));
  const auto lambda = complete.find("lambda");
  double value = 1;
  if (lambda == complete.end() ||
      (absl::SimpleAtod(lambda->second, &value) && value > 0 && value <= 10)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("parameter lambda=", lambda->second,
                   " must be above 0 and at most 10"));
}

absl::StatusOr<std::vector<ContributionRecord>> TakeQueued(
    const HubReader& reader, absl::string_view model) {
  CAIRN_ASSIGN_OR_RETURN(auto queued,
                         reader.FindByPrefix<ContributionRecord>(
                             kQueue, QueueValue(model), kQueueScanned));
  std::erase_if(queued, [](const ContributionRecord& record) {
    return record.contribution().held();
  });
  if (queued.size() > kMembersMax) queued.resize(kMembersMax);
  return queued;
}

// Stores a FORMING batch that has taken its members out of the queue.
absl::StatusOr<BatchRecord> FormBatch(HubTransaction& transaction,
                                      const Caller& caller,
                                      const std::string& model,
                                      const std::string& strategy,
                                      const v1::StartBatchRequest& request,
                                      std::vector<ContributionRecord> members) {
  CAIRN_ASSIGN_OR_RETURN(
      int64_t number, transaction.NextNumber(absl::StrCat(model, "/batches")));
  BatchRecord record;
  v1::Batch& batch = *record.mutable_batch();
  batch.set_name(absl::StrCat(model, "/batches/b", number));
  batch.set_purpose(v1::Batch::MERGE);
  batch.set_strategy(strategy);
  *batch.mutable_parameters() = request.parameters();
  *batch.mutable_create_time() = ToTimestamp(transaction.now());
  record.set_model(model);
  record.set_actor(caller.user.empty() ? "hub" : caller.user);
  for (ContributionRecord& member : members) {
    batch.add_contributions(member.contribution().name());
    member.mutable_contribution()->set_batch(batch.name());
    CAIRN_RETURN_IF_ERROR(
        Move(member, v1::Contribution::BATCHED, transaction.now()));
    CAIRN_RETURN_IF_ERROR(transaction.Put(member));
  }
  CAIRN_RETURN_IF_ERROR(Move(record, v1::Batch::FORMING, transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  v1::Event event;
  event.set_kind("batch.started");
  event.set_subject(batch.name());
  event.set_actor(record.actor());
  event.set_message(
      absl::StrCat("merges ", members.size(), " contributions by ", strategy));
  *event.mutable_related() = batch.contributions();
  CAIRN_RETURN_IF_ERROR(transaction.AppendEvent(model, std::move(event)));
  return record;
}

}  // namespace

absl::StatusOr<v1::Batch> BatchService::Start(
    const Caller& caller, const v1::StartBatchRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto parent, ModelName::Parse(request.parent()));
  v1::Batch started;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto replayed, transaction.Replayed<v1::Batch>(
                                              caller.user, "StartBatch",
                                              request.request_id(), request));
    if (replayed.has_value()) {
      started = *std::move(replayed);
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto model,
                           transaction.Get<ModelRecord>(parent.full()));
    std::string strategy = request.strategy();
    if (strategy.empty()) strategy = model.model().policy().strategy();
    if (strategy.empty()) strategy = kDefaultStrategy;
    CAIRN_RETURN_IF_ERROR(CheckStrategy(strategy, request.parameters()));
    CAIRN_ASSIGN_OR_RETURN(auto open, transaction.FindBy<BatchRecord>(
                                          kOpenBatch, parent.full(), 1));
    if (!open.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(open.front().batch().name(), " is running (",
                       v1::Batch::State_Name(open.front().batch().state()),
                       "); wait until it is over"));
    }
    CAIRN_ASSIGN_OR_RETURN(auto members,
                           TakeQueued(transaction, parent.full()));
    if (members.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "nothing is queued for ", parent.full(), " that is not on hold"));
    }
    CAIRN_ASSIGN_OR_RETURN(
        auto record, FormBatch(transaction, caller, parent.full(), strategy,
                               request, std::move(members)));
    started = record.batch();
    return transaction.Remember(caller.user, "StartBatch", request.request_id(),
                                request, started);
  });
  if (!committed.ok()) return committed;
  return started;
}

absl::StatusOr<v1::Batch> BatchService::Get(const v1::GetBatchRequest& request,
                                            Figures figures) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, BatchName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto record, snapshot.Get<BatchRecord>(name.full()));
  return ViewBatch(snapshot, workers_, record, figures);
}

absl::StatusOr<v1::ListBatchesResponse> BatchService::List(
    const v1::ListBatchesRequest& request, Figures figures) const {
  CAIRN_ASSIGN_OR_RETURN(auto parent, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(snapshot.Get<ModelRecord>(parent.full()));
  CAIRN_ASSIGN_OR_RETURN(
      auto page, snapshot.List<BatchRecord>(BatchName::Parent(parent),
                                            {.size = request.page_size(),
                                             .token = request.page_token()}));
  v1::ListBatchesResponse response;
  for (const BatchRecord& record : page.records) {
    CAIRN_ASSIGN_OR_RETURN(*response.add_items(),
                           ViewBatch(snapshot, workers_, record, figures));
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::ListQueueResponse> BatchService::ListQueue(
    const Caller& caller, const v1::ListQueueRequest& request,
    Figures figures) const {
  CAIRN_ASSIGN_OR_RETURN(auto parent, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(snapshot.Get<ModelRecord>(parent.full()));
  CAIRN_ASSIGN_OR_RETURN(auto queued,
                         snapshot.FindByPrefix<ContributionRecord>(
                             kQueue, QueueValue(parent.full()), kQueueScanned));
  // A page goes on after a place in the queue, not after a row number, so
  // that what leaves the queue meanwhile shifts nothing.
  int64_t after = -1;
  if (!request.page_token().empty() &&
      !absl::SimpleAtoi(request.page_token(), &after)) {
    return absl::InvalidArgumentError(
        "page_token is not one that a previous page gave");
  }
  if (request.page_size() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size ", request.page_size(), " is negative"));
  }
  const int size =
      request.page_size() == 0 ? 50 : std::min(request.page_size(), 1000);
  v1::ListQueueResponse response;
  for (const ContributionRecord& record : queued) {
    if (record.queue_position() <= after) continue;
    if (response.items_size() == size) {
      response.set_next_page_token(absl::StrCat(after));
      break;
    }
    CAIRN_ASSIGN_OR_RETURN(*response.add_items(),
                           ViewContribution(snapshot, workers_, record, figures,
                                            caller.user, store_.clock().Now()));
    after = record.queue_position();
  }
  return response;
}

absl::StatusOr<v1::Contribution> BatchService::Hold(
    const Caller& caller, const v1::QueueEditRequest& request) {
  return SetHeld(caller, request, true);
}

absl::StatusOr<v1::Contribution> BatchService::Unhold(
    const Caller& caller, const v1::QueueEditRequest& request) {
  return SetHeld(caller, request, false);
}

absl::StatusOr<v1::Contribution> BatchService::SetHeld(
    const Caller& caller, const v1::QueueEditRequest& request, bool held) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  if (request.etag().empty()) {
    return absl::InvalidArgumentError(
        "etag is required: read the contribution and send its etag");
  }
  v1::Contribution out;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           transaction.Get<ContributionRecord>(name.full()));
    auto& contribution = *record.mutable_contribution();
    if (contribution.state() != v1::Contribution::QUEUED) {
      return absl::FailedPreconditionError(
          absl::StrCat(name.full(), " is ",
                       v1::Contribution::State_Name(contribution.state()),
                       "; only what is QUEUED can be held or let go"));
    }
    if (contribution.held() != held) {
      CAIRN_RETURN_IF_ERROR(
          CheckEtag(name.full(), contribution.etag(), request.etag()));
      contribution.set_held(held);
      CAIRN_RETURN_IF_ERROR(transaction.Put(record));
      v1::Event event;
      event.set_kind(held ? "contribution.held" : "contribution.unheld");
      event.set_subject(name.full());
      event.set_actor(caller.user);
      event.set_message(held ? "no batch takes it" : "batches may take it");
      CAIRN_RETURN_IF_ERROR(
          transaction.AppendEvent(record.model(), std::move(event)));
    }
    CAIRN_ASSIGN_OR_RETURN(
        out, ViewContribution(transaction, workers_, record, Figures::kExact,
                              caller.user, transaction.now()));
    return absl::OkStatus();
  });
  if (!committed.ok()) return committed;
  return out;
}

absl::StatusOr<int> AutoBatchStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto models, snapshot.ListAll<ModelRecord>(""));
  int moved = 0;
  for (const ModelRecord& model : models) {
    const auto& rule = model.model().policy().batch();
    if (rule.count() <= 0 && rule.age_seconds() <= 0) continue;
    const std::string& name = model.model().name();
    CAIRN_ASSIGN_OR_RETURN(auto open,
                           snapshot.FindBy<BatchRecord>(kOpenBatch, name, 1));
    if (!open.empty()) continue;
    CAIRN_ASSIGN_OR_RETURN(auto queued, TakeQueued(snapshot, name));
    if (queued.empty()) continue;
    absl::Time oldest = absl::InfiniteFuture();
    for (const ContributionRecord& record : queued) {
      oldest = std::min(oldest, FromTimestamp(record.waiting_since()));
    }
    const bool is_full =
        rule.count() > 0 && queued.size() >= static_cast<size_t>(rule.count());
    const bool is_old =
        rule.age_seconds() > 0 &&
        store_.clock().Now() - oldest >= absl::Seconds(rule.age_seconds());
    if (!is_full && !is_old) continue;
    v1::StartBatchRequest request;
    request.set_parent(name);
    auto started = batches_.Start(Caller(), request);
    if (started.ok()) {
      ++moved;
    } else if (!absl::IsFailedPrecondition(started.status())) {
      return started.status();
    }
  }
  return moved;
}

}  // namespace cairn
