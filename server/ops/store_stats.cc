#include "server/ops/store_stats.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cairn/store/v1/upload.pb.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/resource_names.h"
#include "server/ops/care_tables.h"
#include "server/ops/record_walk.h"

namespace cairn {
namespace {

using store::v1::BlobOwnerRecord;
using store::v1::DamagedBlobRecord;
using store::v1::ScrubRecord;
using store::v1::UploadRecord;

// In the order in which a blob is counted; the last is for the rest.
constexpr std::array<absl::string_view, 7> kKinds = {
    "releases", "suites",  "contributions", "jobs",
    "batches",  "replays", "unreferenced"};
constexpr size_t kUnreferenced = kKinds.size() - 1;

size_t KindOf(absl::string_view record) {
  for (size_t kind = 0; kind < kUnreferenced; ++kind) {
    if (absl::StartsWith(record, absl::StrCat(kKinds[kind], "/")) ||
        absl::StrContains(record, absl::StrCat("/", kKinds[kind], "/"))) {
      return kind;
    }
  }
  return kUnreferenced;
}

struct Counted {
  int64_t plain_bytes = 0;
  int64_t stored_bytes = 0;
  size_t kind = kUnreferenced;
};

void AddTo(const Counted& blob, v1::StorageShare& share) {
  share.set_blobs(share.blobs() + 1);
  share.set_plain_bytes(share.plain_bytes() + blob.plain_bytes);
  share.set_stored_bytes(share.stored_bytes() + blob.stored_bytes);
}

class Count {
 public:
  Count(const HubReader& reader, const BlobStore& blobs)
      : reader_(reader), blobs_(blobs) {}

  absl::StatusOr<v1::StorageStats> Run() && {
    CAIRN_RETURN_IF_ERROR(CountBlobs());
    CAIRN_RETURN_IF_ERROR(ForEachNamedBlob(
        reader_, blobs_, [this](const NamedBlob& named) { Attribute(named); }));
    CAIRN_RETURN_IF_ERROR(CountUsers());
    AddKinds();
    AddAll(models_, *stats_.mutable_models());
    AddAll(users_, *stats_.mutable_users());
    CAIRN_RETURN_IF_ERROR(
        ForEachRecord<UploadRecord>(reader_, [this](const UploadRecord&) {
          stats_.set_open_uploads(stats_.open_uploads() + 1);
          return absl::OkStatus();
        }));
    return std::move(stats_);
  }

 private:
  using Shares = std::map<std::string, v1::StorageShare>;

  absl::Status CountBlobs() {
    stats_.mutable_total()->set_name("all");
    return blobs_.List([this](const BlobStat& stat) {
      Counted& blob = counted_[stat.digest];
      blob.plain_bytes = stat.size_bytes;
      blob.stored_bytes = stat.stored_bytes;
      AddTo(blob, *stats_.mutable_total());
      if (stat.stored_bytes < stat.size_bytes) {
        stats_.set_packed_blobs(stats_.packed_blobs() + 1);
      }
      return true;
    });
  }

  void Attribute(const NamedBlob& named) {
    auto digest = Digest::Parse(named.sha256);
    if (!digest.ok()) return;
    auto it = counted_.find(*digest);
    if (it == counted_.end()) return;
    Counted& blob = it->second;
    blob.kind = std::min(blob.kind, KindOf(named.record));
    const std::string model(ModelOf(named.record));
    if (model.empty() || !of_models_[model].insert(*digest).second) return;
    AddTo(blob, models_[model]);
  }

  absl::Status CountUsers() {
    return ForEachRecord<BlobOwnerRecord>(
        reader_, [this](const BlobOwnerRecord& record) {
          auto digest = Digest::Parse(record.sha256());
          auto it = digest.ok() ? counted_.find(*digest) : counted_.end();
          if (it != counted_.end()) AddTo(it->second, users_[record.user()]);
          return absl::OkStatus();
        });
  }

  void AddKinds() {
    for (absl::string_view kind : kKinds) {
      stats_.add_kinds()->set_name(std::string(kind));
    }
    for (const auto& [digest, blob] : counted_) {
      AddTo(blob, *stats_.mutable_kinds(static_cast<int>(blob.kind)));
    }
  }

  static void AddAll(
      Shares& shares,
      google::protobuf::RepeatedPtrField<v1::StorageShare>& out) {
    for (auto& [name, share] : shares) {
      share.set_name(name);
      *out.Add() = std::move(share);
    }
  }

  const HubReader& reader_;
  const BlobStore& blobs_;
  v1::StorageStats stats_;
  absl::flat_hash_map<Digest, Counted> counted_;
  std::map<std::string, absl::flat_hash_set<Digest>> of_models_;
  Shares models_;
  Shares users_;
};

}  // namespace

absl::StatusOr<v1::StorageStats> CountStore(const HubReader& reader,
                                            const BlobStore& blobs) {
  return Count(reader, blobs).Run();
}

absl::StatusOr<v1::ScrubState> DescribeScrub(const HubReader& reader) {
  v1::ScrubState state;
  CAIRN_ASSIGN_OR_RETURN(auto scrub, reader.Find<ScrubRecord>(kScrubName));
  if (scrub.has_value()) {
    if (!scrub->position().empty()) {
      *state.mutable_start_time() = scrub->start_time();
    }
    if (scrub->has_end_time()) *state.mutable_end_time() = scrub->end_time();
    state.set_blobs(scrub->blobs());
    state.set_bytes(scrub->bytes());
  }
  CAIRN_RETURN_IF_ERROR(ForEachRecord<DamagedBlobRecord>(
      reader, [&](const DamagedBlobRecord& record) {
        *state.add_damaged() = record.blob();
        return absl::OkStatus();
      }));
  return state;
}

}  // namespace cairn
