#include "server/vet/screen_stage.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/reasons.h"
#include "server/flow/stored_files.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;

constexpr size_t kContributionsAPass = 8;

absl::Status Commit(HubTransaction& transaction, const std::string& name,
                    const std::vector<v1::Reason>& reasons) {
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         transaction.Get<ContributionRecord>(name));
  // Withdrawn meanwhile.
  if (record.contribution().state() != v1::Contribution::RECEIVED) {
    return absl::OkStatus();
  }
  const bool passed = reasons.empty();
  *record.mutable_contribution()->add_verdicts() =
      MakeVerdict("screen", passed ? v1::Verdict::PASS : v1::Verdict::FAIL,
                  reasons, transaction.now());
  CAIRN_RETURN_IF_ERROR(Move(
      record, passed ? v1::Contribution::SCREENED : v1::Contribution::REJECTED,
      transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  if (passed) return absl::OkStatus();
  v1::Event event;
  event.set_kind("contribution.rejected");
  event.set_subject(name);
  event.set_actor("hub");
  event.set_message(reasons.front().message());
  return transaction.AppendEvent(record.model(), std::move(event));
}

}  // namespace

std::vector<std::unique_ptr<Screen>> AllScreens() {
  std::vector<std::unique_ptr<Screen>> screens;
  screens.push_back(MakeSignatureScreen());
  screens.push_back(MakeDuplicateScreen());
  screens.push_back(MakeBaseScreen());
  screens.push_back(MakeFiniteScreen());
  screens.push_back(MakeNormScreen());
  return screens;
}

ScreenStage::ScreenStage(HubStore& store, const BlobStore& blobs,
                         std::vector<std::unique_ptr<Screen>> screens)
    : store_(store), blobs_(blobs), screens_(std::move(screens)) {}

absl::StatusOr<int> ScreenStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto received, snapshot.FindBy<ContributionRecord>(
                                            kContributionByState, "RECEIVED",
                                            kContributionsAPass));
  int moved = 0;
  absl::Status trouble;
  for (const ContributionRecord& record : received) {
    const std::string& name = record.contribution().name();
    auto reasons = Inspect(snapshot, record);
    if (!reasons.ok()) {
      CAIRN_LOG(kError, "screening ", name, ": ", reasons.status().ToString());
      trouble = reasons.status();
      continue;
    }
    absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
      return Commit(transaction, name, *reasons);
    });
    if (!committed.ok()) return committed;
    ++moved;
  }
  if (moved == 0 && !trouble.ok()) return trouble;
  return moved;
}

absl::StatusOr<std::vector<v1::Reason>> ScreenStage::Inspect(
    const HubReader& reader, const ContributionRecord& record) const {
  std::vector<v1::Reason> reasons;
  CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(record.model()));
  CAIRN_ASSIGN_OR_RETURN(auto base, reader.Get<ReleaseRecord>(
                                        record.contribution().base_release()));
  CAIRN_ASSIGN_OR_RETURN(
      auto tensors,
      ReadTensorManifest(blobs_, base.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(
      auto files, OpenStoredFiles(blobs_, record.contribution().files()));
  auto update = OpenUpdate(files);
  if (absl::IsInvalidArgument(update.status())) {
    reasons.push_back(ReasonOf(update.status()));
    return reasons;
  }
  if (!update.ok()) return update.status();
  const ScreenInput input{.record = record,
                          .update = **update,
                          .base = tensors,
                          .policy = model.model().policy(),
                          .reader = reader,
                          .blobs = blobs_};
  for (const auto& screen : screens_) {
    CAIRN_ASSIGN_OR_RETURN(reasons, screen->Inspect(input));
    if (!reasons.empty()) break;
  }
  return reasons;
}

}  // namespace cairn
