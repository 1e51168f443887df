#include "server/vet/screen_stage.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/base_model.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/reasons.h"
#include "server/flow/stored_files.h"
#include "server/gate/gate.h"
#include "server/gate/holdout.h"
#include "server/vet/fingerprint_record.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::FingerprintRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;

constexpr size_t kContributionsAPass = 8;

v1::Reason Anomaly(const v1::Finding& finding) {
  v1::Reason reason = MakeReason(
      v1::Reason::SCREEN_ANOMALY,
      absl::StrCat("screen '", finding.screen(), "': ", finding.evidence(),
                   "; if that is honest, ask a maintainer to look at it"));
  reason.set_measured(finding.score());
  reason.set_limit(finding.limit());
  if (!finding.tensor().empty()) reason.set_tensor(finding.tensor());
  return reason;
}

// What came before an update, as weight screens want it.
struct History {
  std::vector<FingerprintRecord> accepted;
  std::vector<FingerprintRecord> others;
};

bool IsAccepted(v1::Contribution::State state) {
  return state == v1::Contribution::QUEUED ||
         state == v1::Contribution::BATCHED ||
         state == v1::Contribution::RELEASED;
}

absl::StatusOr<History> ReadHistory(const HubReader& reader,
                                    const ContributionRecord& mine) {
  CAIRN_ASSIGN_OR_RETURN(auto prints,
                         reader.ListAll<FingerprintRecord>(
                             absl::StrCat(mine.model(), "/contributions/")));
  CAIRN_ASSIGN_OR_RETURN(std::string organisation,
                         OrganisationOf(reader, mine.contribution().author()));
  History out;
  // In the order of names: from the newest back.
  for (auto print = prints.rbegin(); print != prints.rend(); ++print) {
    if (print->contribution() == mine.contribution().name()) continue;
    CAIRN_ASSIGN_OR_RETURN(
        auto found, reader.Find<ContributionRecord>(print->contribution()));
    if (!found.has_value() || !IsLive(found->contribution().state())) continue;
    CAIRN_ASSIGN_OR_RETURN(std::string theirs,
                           OrganisationOf(reader, print->author()));
    const bool is_other = theirs != organisation;
    const bool is_accepted = IsAccepted(found->contribution().state());
    if (is_accepted && out.accepted.size() < kHistoryMax) {
      out.accepted.push_back(*print);
    }
    if (is_other) out.others.push_back(std::move(*print));
  }
  return out;
}

}  // namespace

std::vector<std::unique_ptr<Screen>> FileScreens() {
  std::vector<std::unique_ptr<Screen>> screens;
  screens.push_back(MakeSignatureScreen());
  screens.push_back(MakeDuplicateScreen());
  screens.push_back(MakeBaseScreen());
  screens.push_back(MakeFiniteScreen());
  return screens;
}

std::vector<std::unique_ptr<Screen>> FingerprintScreens() {
  std::vector<std::unique_ptr<Screen>> screens;
  screens.push_back(MakeNormScreen());
  return screens;
}

ScreenStage::ScreenStage(HubStore& store, const BlobStore& blobs)
    : store_(store), blobs_(blobs) {}

absl::Status ScreenStage::Commit(HubTransaction& transaction,
                                 const std::string& name,
                                 const Outcome& outcome) const {
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         transaction.Get<ContributionRecord>(name));
  // Withdrawn meanwhile.
  if (record.contribution().state() != v1::Contribution::RECEIVED) {
    return absl::OkStatus();
  }
  const bool passed = outcome.reasons.empty();
  auto& contribution = *record.mutable_contribution();
  *contribution.add_verdicts() =
      MakeVerdict("screen", passed ? v1::Verdict::PASS : v1::Verdict::FAIL,
                  outcome.reasons, transaction.now());
  contribution.mutable_findings()->Assign(outcome.findings.begin(),
                                          outcome.findings.end());
  if (outcome.fingerprint.has_value()) {
    FingerprintRecord fingerprint = *outcome.fingerprint;
    CAIRN_RETURN_IF_ERROR(transaction.Put(fingerprint));
  }
  CAIRN_RETURN_IF_ERROR(Move(
      record, passed ? v1::Contribution::SCREENED : v1::Contribution::REJECTED,
      transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  if (passed) return absl::OkStatus();
  v1::Event event;
  event.set_kind("contribution.rejected");
  event.set_subject(name);
  event.set_actor("hub");
  event.set_message(outcome.reasons.front().message());
  return transaction.AppendEvent(record.model(), std::move(event));
}

absl::StatusOr<int> ScreenStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto received, snapshot.FindBy<ContributionRecord>(
                                            kContributionByState, "RECEIVED",
                                            kContributionsAPass));
  int moved = 0;
  absl::Status trouble;
  for (const ContributionRecord& record : received) {
    const std::string& name = record.contribution().name();
    auto outcome = Inspect(snapshot, record);
    if (!outcome.ok()) {
      CAIRN_LOG(kError, "screening ", name, ": ", outcome.status().ToString());
      trouble = outcome.status();
      continue;
    }
    absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
      return Commit(transaction, name, *outcome);
    });
    if (!committed.ok()) return committed;
    ++moved;
  }
  if (moved == 0 && !trouble.ok()) return trouble;
  return moved;
}

absl::StatusOr<ScreenStage::Outcome> ScreenStage::Inspect(
    const HubReader& reader, const ContributionRecord& record) const {
  Outcome outcome;
  CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(record.model()));
  CAIRN_ASSIGN_OR_RETURN(auto base, reader.Get<ReleaseRecord>(
                                        record.contribution().base_release()));
  CAIRN_ASSIGN_OR_RETURN(
      auto tensors,
      ReadTensorManifest(blobs_, base.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(
      auto files, OpenStoredFiles(blobs_, record.contribution().files()));
  CAIRN_ASSIGN_OR_RETURN(const std::string config,
                         ReadConfig(blobs_, base.release()));
  const BaseModel on = {.tensors = &tensors, .config_json = config};
  auto update = OpenUpdate(files, &on);
  if (absl::IsInvalidArgument(update.status())) {
    outcome.reasons.push_back(ReasonOf(update.status()));
    return outcome;
  }
  if (!update.ok()) return update.status();
  const ScreenInput input{.record = record,
                          .update = **update,
                          .base = tensors,
                          .policy = model.model().policy(),
                          .reader = reader,
                          .blobs = blobs_};
  for (const auto& screen : file_screens_) {
    CAIRN_ASSIGN_OR_RETURN(outcome.reasons, screen->Inspect(input));
    if (!outcome.reasons.empty()) return outcome;
  }
  CAIRN_RETURN_IF_ERROR(InspectWeights(input, outcome));
  return outcome;
}

absl::Status ScreenStage::InspectWeights(ScreenInput input,
                                         Outcome& outcome) const {
  auto open = [&](const TouchedTensor& touched) -> absl::StatusOr<BaseTensor> {
    const v1::Tensor* tensor = FindTensor(input.base, touched.name);
    if (tensor == nullptr) {
      return absl::InternalError(
          absl::StrCat("tensor ", touched.name, " passed the base screen"));
    }
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(tensor->sha256()));
    BaseTensor out;
    out.dtype = ParseDType(tensor->dtype()).value_or(DType::kU8);
    CAIRN_ASSIGN_OR_RETURN(out.bytes, blobs_.Open(digest));
    return out;
  };
  auto taken = TakeFingerprint(input.update, open);
  if (absl::IsInvalidArgument(taken.status())) {
    outcome.reasons.push_back(ReasonOf(taken.status()));
    return absl::OkStatus();
  }
  if (!taken.ok()) return taken.status();
  const Fingerprint& print = *taken;
  outcome.fingerprint = MakeFingerprintRecord(input.record, print);
  input.fingerprint = &*outcome.fingerprint;
  for (const auto& screen : fingerprint_screens_) {
    CAIRN_ASSIGN_OR_RETURN(outcome.reasons, screen->Inspect(input));
    if (!outcome.reasons.empty()) return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(History history,
                         ReadHistory(input.reader, input.record));
  for (const auto& screen : weight_screens_) {
    v1::Finding finding = screen->Inspect({.mine = *outcome.fingerprint,
                                           .accepted = history.accepted,
                                           .others = history.others});
    if (finding.anomaly() &&
        OnAnomaly(input.policy, screen->name()) == v1::Verdict::FAIL) {
      outcome.reasons.push_back(Anomaly(finding));
    }
    outcome.findings.push_back(std::move(finding));
  }
  return absl::OkStatus();
}

}  // namespace cairn
