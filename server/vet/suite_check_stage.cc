#include "server/vet/suite_check_stage.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/gate/score_book.h"

namespace cairn {
namespace {

using store::v1::JobRecord;
using store::v1::ModelRecord;
using store::v1::SuiteRecord;

// Jobs given up for the machine's sake, not the suite's, before it is retired.
constexpr int kChecksMax = 3;

// The splits that the suite has, in a fixed order.
std::vector<std::string> SplitsOf(const SuiteRecord& record) {
  std::vector<std::string> splits;
  for (const char* split : {"search", "gate", "audit"}) {
    if (record.suite().split_items().contains(split)) splits.push_back(split);
  }
  return splits;
}

absl::Status CheckScores(const SuiteRecord& record,
                         const v1::EvaluateResult& result) {
  for (const std::string& split : SplitsOf(record)) {
    bool found = false;
    for (const v1::SplitScores& scores : result.base()) {
      found = found || (scores.split() == split &&
                        scores.suite() == record.suite().name() &&
                        scores.suite_version() == record.suite().version() &&
                        scores.scores_size() > 0);
    }
    if (!found) {
      return absl::InternalError(
          absl::StrCat("the result has no scores of split ", split));
    }
  }
  return absl::OkStatus();
}

absl::Status Announce(HubTransaction& transaction, absl::string_view kind,
                      const SuiteRecord& record, absl::string_view message) {
  v1::Event event;
  event.set_kind(std::string(kind));
  event.set_subject(record.suite().name());
  event.set_actor("hub");
  event.set_message(std::string(message));
  return transaction.AppendEvent(ModelOf(record.suite().name()),
                                 std::move(event));
}

absl::Status Activate(HubTransaction& transaction, SuiteRecord record) {
  CAIRN_ASSIGN_OR_RETURN(auto versions,
                         transaction.ListAll<SuiteRecord>(
                             absl::StrCat(record.suite().name(), "/")));
  for (SuiteRecord& old : versions) {
    if (old.suite().state() != v1::Suite::ACTIVE) continue;
    CAIRN_RETURN_IF_ERROR(Move(old, v1::Suite::RETIRED));
    CAIRN_RETURN_IF_ERROR(transaction.Put(old));
  }
  record.clear_job();
  record.mutable_suite()->clear_reasons();
  CAIRN_RETURN_IF_ERROR(Move(record, v1::Suite::ACTIVE));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  return Announce(transaction, "suite.active", record,
                  absl::StrCat("version ", record.suite().version(),
                               " is used for decisions"));
}

absl::Status Refuse(HubTransaction& transaction, SuiteRecord record,
                    const v1::Reason& reason, bool is_final) {
  record.clear_job();
  record.set_check_failures(record.check_failures() + 1);
  record.mutable_suite()->clear_reasons();
  *record.mutable_suite()->add_reasons() = reason;
  if (!is_final && record.check_failures() < kChecksMax) {
    return transaction.Put(record);
  }
  CAIRN_RETURN_IF_ERROR(Move(record, v1::Suite::RETIRED));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  return Announce(transaction, "suite.refused", record, reason.message());
}

}  // namespace

absl::StatusOr<int> SuiteCheckStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto checking, snapshot.FindBy<SuiteRecord>(kSuiteByState, "CHECKING"));
  int moved = 0;
  for (const SuiteRecord& record : checking) {
    auto did = record.job().empty() ? Start(record) : Finish(record);
    if (!did.ok()) {
      CAIRN_LOG(kError, "checking ", record.suite().name(), ": ",
                did.status().ToString());
    } else if (*did) {
      ++moved;
    }
  }
  return moved;
}

absl::StatusOr<bool> SuiteCheckStage::Start(const SuiteRecord& record) {
  const std::string version = Table<SuiteRecord>::Name(record);
  const std::string model_name(ModelOf(record.suite().name()));
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Get<SuiteRecord>(version));
    if (now.suite().state() != v1::Suite::CHECKING || !now.job().empty()) {
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto model,
                           transaction.Get<ModelRecord>(model_name));
    CAIRN_ASSIGN_OR_RETURN(auto head, transaction.Head(model_name));
    JobRequest request{.model = model_name, .subject = now.suite().name()};
    v1::EvaluateSpec& spec = *request.spec.mutable_evaluate();
    *spec.mutable_base() = MakeModelInput(head);
    *spec.add_suites() = MakeSuiteInput(now, SplitsOf(now));
    SetComputation(model.model().policy(), spec);
    CAIRN_ASSIGN_OR_RETURN(*now.mutable_job(),
                           EnqueueJob(transaction, request));
    return transaction.Put(now);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> SuiteCheckStage::Finish(const SuiteRecord& record) {
  const std::string version = Table<SuiteRecord>::Name(record);
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto job, snapshot.Get<JobRecord>(record.job()));
  if (!IsOver(job.state())) return false;
  v1::JobResult result;
  absl::Status checked;
  if (job.state() == JobRecord::DONE) {
    auto read = ReadJobResult(blobs_, job);
    if (read.ok()) result = *std::move(read);
    checked =
        read.ok() ? CheckScores(record, result.evaluate()) : read.status();
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Get<SuiteRecord>(version));
    if (now.suite().state() != v1::Suite::CHECKING ||
        now.job() != record.job()) {
      return absl::OkStatus();
    }
    if (job.state() == JobRecord::FAILED) {
      return Refuse(transaction, now, job.failure(),
                    job.failure_cause() == v1::JobFailure::INPUT);
    }
    if (!checked.ok()) {
      return Refuse(transaction, now,
                    MakeReason(v1::Reason::EVALUATION_FAILED,
                               std::string(checked.message())),
                    /*is_final=*/false);
    }
    const v1::EvaluateSpec& spec = job.spec().evaluate();
    CAIRN_RETURN_IF_ERROR(RememberScores(transaction,
                                         {.digest = DigestOf(spec.base()),
                                          .device_class = result.device_class(),
                                          .dtype = spec.dtype()},
                                         result.evaluate().base()));
    return Activate(transaction, std::move(now));
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
