#include "server/ops/blob_scrub_stage.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"
#include "server/ops/care_tables.h"
#include "server/ops/record_walk.h"

namespace cairn {
namespace {

using store::v1::BlobOwnerRecord;
using store::v1::DamagedBlobRecord;
using store::v1::ScrubRecord;

// A crash repeats what was read since the position was noted last.
constexpr absl::Duration kSaveEvery = absl::Seconds(30);
constexpr int kUsersMax = 1000;

// Damaged blobs by SHA-256, with those that need them.
absl::StatusOr<std::map<std::string, DamagedBlobRecord>> FindUsers(
    const HubReader& reader, const BlobStore& blobs, const ScrubTally& tally) {
  std::map<std::string, DamagedBlobRecord> found;
  for (const DamagedBlob& damaged : tally.damaged) {
    v1::DamagedBlob& blob = *found[damaged.digest.hex()].mutable_blob();
    blob.set_sha256(damaged.digest.hex());
    blob.set_message(damaged.what);
  }
  CAIRN_RETURN_IF_ERROR(
      ForEachNamedBlob(reader, blobs, [&](const NamedBlob& named) {
        auto it = found.find(named.sha256);
        if (it == found.end()) return;
        v1::DamagedBlob& blob = *it->second.mutable_blob();
        const int users = blob.used_by_size();
        // One record may need a blob several times; it comes in a row then.
        if (users > 0 && blob.used_by(users - 1) == named.record) return;
        if (users < kUsersMax) blob.add_used_by(named.record);
      }));
  return found;
}

// Those who sent the blobs: as long as they count as senders, they would not
// be asked for the bytes again.
absl::StatusOr<std::vector<BlobOwnerRecord>> FindOwners(
    const HubReader& reader,
    const std::map<std::string, DamagedBlobRecord>& damaged) {
  std::vector<BlobOwnerRecord> owners;
  CAIRN_RETURN_IF_ERROR(ForEachRecord<BlobOwnerRecord>(
      reader, [&](const BlobOwnerRecord& record) {
        if (damaged.contains(record.sha256())) owners.push_back(record);
        return absl::OkStatus();
      }));
  return owners;
}

v1::Event DamageEvent(const std::string& user, const v1::DamagedBlob& blob) {
  v1::Event event;
  event.set_kind("storage.damaged");
  event.set_subject(user);
  event.set_actor("hub");
  event.set_message(absl::StrCat(blob.message(),
                                 "; push or import the same "
                                 "bytes again to mend it"));
  return event;
}

}  // namespace

BlobScrubStage::BlobScrubStage(HubStore& store, const BlobStore& blobs,
                               int64_t bytes_per_second, absl::Duration every)
    : store_(store),
      blobs_(blobs),
      every_(every),
      scrubber_(blobs, store.clock(), bytes_per_second),
      saved_at_(store.clock().Monotonic()) {}

absl::StatusOr<int> BlobScrubStage::RunPass() {
  if (!record_.has_value()) CAIRN_RETURN_IF_ERROR(Load());
  const absl::Time now = store_.clock().Now();
  if (record_->position().empty()) {
    const bool is_due = !record_->has_end_time() ||
                        now >= FromTimestamp(record_->end_time()) + every_;
    if (!is_due || is_ending_) return 0;
    record_->set_position(Digest().hex());
    *record_->mutable_start_time() = ToTimestamp(now);
    record_->set_blobs(0);
    record_->set_bytes(0);
  }
  CAIRN_ASSIGN_OR_RETURN(Digest from, Digest::Parse(record_->position()));
  CAIRN_ASSIGN_OR_RETURN(ScrubTally tally,
                         scrubber_.Run(from, [this] { return !is_ending_; }));
  CAIRN_RETURN_IF_ERROR(NoteDamaged(tally));
  CAIRN_RETURN_IF_ERROR(NoteSound(tally));
  record_->set_blobs(record_->blobs() + tally.blobs);
  record_->set_bytes(record_->bytes() + tally.bytes);
  record_->set_position(tally.next.has_value() ? tally.next->hex() : "");
  scrubbed_bytes_ += tally.bytes;
  if (!tally.next.has_value()) {
    CAIRN_RETURN_IF_ERROR(ForgetRemoved());
    *record_->mutable_end_time() = ToTimestamp(store_.clock().Now());
  }
  const bool is_late = store_.clock().Monotonic() - saved_at_ >= kSaveEvery;
  if (!tally.next.has_value() || is_late || is_ending_) {
    CAIRN_RETURN_IF_ERROR(SavePosition());
  }
  return 0;
}

absl::Status BlobScrubStage::Load() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto found, snapshot.Find<ScrubRecord>(kScrubName));
  CAIRN_RETURN_IF_ERROR(ForEachRecord<DamagedBlobRecord>(
      snapshot, [this](const DamagedBlobRecord& record) {
        damaged_.insert(record.blob().sha256());
        return absl::OkStatus();
      }));
  damaged_blobs_ = static_cast<int64_t>(damaged_.size());
  record_ = found.value_or(ScrubRecord());
  return absl::OkStatus();
}

absl::Status BlobScrubStage::NoteDamaged(const ScrubTally& tally) {
  if (tally.damaged.empty()) return absl::OkStatus();
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto found, FindUsers(snapshot, blobs_, tally));
  CAIRN_ASSIGN_OR_RETURN(auto owners, FindOwners(snapshot, found));
  absl::Status noted = store_.Transact([&](HubTransaction& txn)
                                           -> absl::Status {
    for (auto& [sha256, record] : found) {
      CAIRN_ASSIGN_OR_RETURN(auto known, txn.Find<DamagedBlobRecord>(sha256));
      v1::DamagedBlob& blob = *record.mutable_blob();
      *blob.mutable_find_time() = known.has_value() ? known->blob().find_time()
                                                    : ToTimestamp(txn.now());
      CAIRN_RETURN_IF_ERROR(txn.Put(record));
      if (known.has_value()) continue;
      for (const std::string& user : blob.used_by()) {
        const absl::string_view model = ModelOf(user);
        if (model.empty()) continue;
        CAIRN_RETURN_IF_ERROR(txn.AppendEvent(model, DamageEvent(user, blob)));
      }
    }
    for (const BlobOwnerRecord& owner : owners) {
      CAIRN_RETURN_IF_ERROR(DropOwner(txn, owner));
    }
    return absl::OkStatus();
  });
  CAIRN_RETURN_IF_ERROR(noted);
  for (const auto& [sha256, record] : found) {
    if (!damaged_.insert(sha256).second) continue;
    CAIRN_LOG(kError, record.blob().message(), "; ",
              record.blob().used_by_size(), " records need it",
              record.blob().used_by().empty()
                  ? ""
                  : absl::StrCat(", ", record.blob().used_by(0), " first"));
  }
  damaged_blobs_ = static_cast<int64_t>(damaged_.size());
  return absl::OkStatus();
}

absl::Status BlobScrubStage::NoteSound(const ScrubTally& tally) {
  if (damaged_.empty()) return absl::OkStatus();
  for (const Digest& digest : tally.sound) {
    if (!damaged_.contains(digest.hex())) continue;
    CAIRN_RETURN_IF_ERROR(Forget(digest.hex(), "reads well again"));
  }
  return absl::OkStatus();
}

absl::Status BlobScrubStage::ForgetRemoved() {
  const std::set<std::string> known = damaged_;
  for (const std::string& sha256 : known) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(sha256));
    if (!absl::IsNotFound(blobs_.Stat(digest).status())) continue;
    CAIRN_RETURN_IF_ERROR(Forget(sha256, "is gone"));
  }
  return absl::OkStatus();
}

absl::Status BlobScrubStage::Forget(const std::string& sha256,
                                    absl::string_view why) {
  CAIRN_RETURN_IF_ERROR(store_.Transact([&](HubTransaction& txn) {
    return txn.Delete<DamagedBlobRecord>(sha256);
  }));
  damaged_.erase(sha256);
  damaged_blobs_ = static_cast<int64_t>(damaged_.size());
  CAIRN_LOG(kInfo, "damaged blob ", sha256, " ", why);
  return absl::OkStatus();
}

absl::Status BlobScrubStage::SavePosition() {
  saved_at_ = store_.clock().Monotonic();
  return store_.Transact(
      [this](HubTransaction& txn) { return txn.Put(*record_); });
}

}  // namespace cairn
