#include "server/release/delta_stage.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"

namespace cairn {
namespace {

using store::v1::DeltaRecord;
using store::v1::JobRecord;

// A delta that takes more of the files' bytes than this is not worth a
// client's time, nor the hub's disk.
constexpr double kWorthwhile = 0.9;

// Fills in what the worker handed in. An error is why there is no delta.
absl::Status TakeResult(BlobStore& blobs, const JobRecord& job,
                        v1::Delta& delta) {
  CAIRN_ASSIGN_OR_RETURN(v1::JobResult result, ReadJobResult(blobs, job));
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(result.delta().sha256()));
  // The record that names it comes next: the sweep must not take it now.
  CAIRN_RETURN_IF_ERROR(blobs.Touch(digest));
  CAIRN_ASSIGN_OR_RETURN(BlobStat stat, blobs.Stat(digest));
  if (static_cast<double>(stat.size_bytes) >
      kWorthwhile * static_cast<double>(delta.full_bytes())) {
    return absl::FailedPreconditionError(
        absl::StrCat("it would have ", stat.size_bytes,
                     " bytes; the files have ", delta.full_bytes()));
  }
  delta.set_state(v1::Delta::READY);
  delta.set_sha256(digest.hex());
  delta.set_size_bytes(stat.size_bytes);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> DeltaStage::RunPass() {
  CAIRN_ASSIGN_OR_RETURN(auto open, store_.Read().FindByPrefix<DeltaRecord>(
                                        kOpenDelta, "models/"));
  int moved = 0;
  for (DeltaRecord& record : open) {
    CAIRN_ASSIGN_OR_RETURN(bool settled, Settle(std::move(record)));
    moved += settled ? 1 : 0;
  }
  return moved;
}

absl::StatusOr<bool> DeltaStage::Settle(DeltaRecord record) {
  CAIRN_ASSIGN_OR_RETURN(auto job, store_.Read().Find<JobRecord>(record.job()));
  if (job.has_value() && !IsOver(job->state())) return false;
  absl::Status taken;
  if (!job.has_value()) {
    taken = absl::NotFoundError("its job is so long over that it is forgotten");
  } else if (job->state() == JobRecord::FAILED) {
    taken = absl::InternalError(job->failure().message());
  } else {
    taken = TakeResult(blobs_, *job, *record.mutable_delta());
  }
  if (!taken.ok()) {
    CAIRN_LOG(kInfo, "no ", record.delta().name(), ": ", taken.message());
    record.mutable_delta()->set_state(v1::Delta::FAILED);
    record.mutable_delta()->set_note(std::string(taken.message()));
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    DeltaRecord next = record;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
