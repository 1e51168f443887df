#include "server/ops/store_check.h"

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/release/release_digest.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"
#include "server/ops/care_tables.h"
#include "server/ops/record_walk.h"
#include "storage/blob_scrubber.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::DamagedBlobRecord;
using store::v1::JobRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::ReplayRecord;
using store::v1::SuiteRecord;
using store::v1::TagRecord;
using store::v1::TokenRecord;
using store::v1::UserRecord;

constexpr int kProblemsMax = 1000;

// One run over the store.
class Inspection {
 public:
  Inspection(const HubReader& reader, const BlobStore& blobs, BlobCheck how)
      : reader_(reader), blobs_(blobs), how_(how) {}

  absl::StatusOr<v1::CheckResponse> Run() && {
    CAIRN_RETURN_IF_ERROR(CheckDamaged());
    CAIRN_RETURN_IF_ERROR(CheckModels());
    CAIRN_RETURN_IF_ERROR(CheckReleases());
    CAIRN_RETURN_IF_ERROR(CheckTags());
    CAIRN_RETURN_IF_ERROR(CheckContributions());
    CAIRN_RETURN_IF_ERROR(CheckBatches());
    CAIRN_RETURN_IF_ERROR(CheckWork());
    CAIRN_RETURN_IF_ERROR(CheckPeople());
    CAIRN_RETURN_IF_ERROR(Note(
        "blobs",
        ForEachNamedBlob(reader_, blobs_,
                         [this](const NamedBlob& blob) { CheckBlob(blob); })));
    return std::move(response_);
  }

 private:
  void Report(absl::string_view record, absl::string_view what) {
    if (response_.problems_size() < kProblemsMax) {
      response_.add_problems(absl::StrCat(record, ": ", what));
    }
  }

  // A table that cannot be read is a problem, not the end of the check.
  absl::Status Note(absl::string_view what, const absl::Status& status) {
    if (absl::IsDataLoss(status)) {
      Report(what, status.message());
      return absl::OkStatus();
    }
    return status;
  }

  template <class Record, typename Fn>
  absl::Status Each(absl::string_view table, Fn fn) {
    return Note(table, ForEachRecord<Record>(
                           reader_, [&](const Record& record) -> absl::Status {
                             response_.set_records(response_.records() + 1);
                             return fn(record);
                           }));
  }

  // `name` must name a record of that type.
  template <class Record>
  absl::Status Need(absl::string_view record, absl::string_view field,
                    absl::string_view name) {
    auto found = reader_.Find<Record>(name);
    if (!found.ok()) return Note(name, found.status());
    if (!found->has_value()) {
      Report(record,
             absl::StrCat(field, " names ", name.empty() ? "nothing" : name,
                          ", which does not exist"));
    }
    return absl::OkStatus();
  }

  template <class Record>
  absl::Status NeedIfSet(absl::string_view record, absl::string_view field,
                         absl::string_view name) {
    if (name.empty()) return absl::OkStatus();
    return Need<Record>(record, field, name);
  }

  absl::Status CheckModels() {
    return Each<ModelRecord>("models", [&](const ModelRecord& record) {
      const std::string& name = record.model().name();
      return Need<TagRecord>(name, "head", absl::StrCat(name, "/tags/latest"));
    });
  }

  absl::Status CheckReleases() {
    return Each<ReleaseRecord>(
        "releases", [&](const ReleaseRecord& record) -> absl::Status {
          const v1::Release& release = record.release();
          const std::string& name = release.name();
          CAIRN_RETURN_IF_ERROR(
              Need<ModelRecord>(name, "model", ModelOf(name)));
          CAIRN_RETURN_IF_ERROR(
              NeedIfSet<ReleaseRecord>(name, "parent", release.parent()));
          for (const std::string& member : release.contributions()) {
            CAIRN_RETURN_IF_ERROR(
                Need<ContributionRecord>(name, "contributions", member));
          }
          if (ManifestDigest(record.manifest()) != release.manifest_digest()) {
            Report(name, "the stored manifest does not have manifest_digest");
          }
          if (record.files_size() != release.files_size()) {
            Report(name, "files and their segments differ in number");
          }
          return absl::OkStatus();
        });
  }

  absl::Status CheckTags() {
    return Each<TagRecord>("tags", [&](const TagRecord& record) {
      return Need<ReleaseRecord>(record.tag().name(), "release",
                                 record.tag().release());
    });
  }

  absl::Status CheckContributions() {
    return Each<ContributionRecord>(
        "contributions", [&](const ContributionRecord& record) -> absl::Status {
          const v1::Contribution& c = record.contribution();
          CAIRN_RETURN_IF_ERROR(
              Need<ReleaseRecord>(c.name(), "base_release", c.base_release()));
          CAIRN_RETURN_IF_ERROR(
              Need<UserRecord>(c.name(), "author", c.author()));
          CAIRN_RETURN_IF_ERROR(
              NeedIfSet<ReleaseRecord>(c.name(), "release", c.release()));
          CAIRN_RETURN_IF_ERROR(
              NeedIfSet<BatchRecord>(c.name(), "batch", c.batch()));
          if (c.state() == v1::Contribution::RELEASED && c.release().empty()) {
            Report(c.name(), "is RELEASED and names no release");
          }
          if (c.state() == v1::Contribution::BATCHED && c.batch().empty()) {
            Report(c.name(), "is BATCHED and names no batch");
          }
          return absl::OkStatus();
        });
  }

  absl::Status CheckBatches() {
    return Each<BatchRecord>(
        "batches", [&](const BatchRecord& record) -> absl::Status {
          const v1::Batch& batch = record.batch();
          for (const std::string& member : batch.contributions()) {
            CAIRN_RETURN_IF_ERROR(Need<ContributionRecord>(
                batch.name(), "contributions", member));
          }
          CAIRN_RETURN_IF_ERROR(
              NeedIfSet<ReleaseRecord>(batch.name(), "head", record.head()));
          if (batch.state() == v1::Batch::PUBLISHED) {
            return Need<ReleaseRecord>(batch.name(), "release",
                                       batch.release());
          }
          return absl::OkStatus();
        });
  }

  absl::Status CheckWork() {
    CAIRN_RETURN_IF_ERROR(
        Each<SuiteRecord>("suites", [&](const SuiteRecord& record) {
          return NeedIfSet<JobRecord>(record.suite().name(), "job",
                                      record.job());
        }));
    CAIRN_RETURN_IF_ERROR(Each<JobRecord>("jobs", [&](const JobRecord& record) {
      if (record.state() == JobRecord::DONE && record.result_sha256().empty()) {
        Report(record.name(), "is DONE and names no result");
      }
      return Need<ModelRecord>(record.name(), "model", record.model());
    }));
    return Each<ReplayRecord>("replays", [&](const ReplayRecord& record) {
      return NeedIfSet<JobRecord>(record.replay().name(), "job", record.job());
    });
  }

  absl::Status CheckPeople() {
    CAIRN_RETURN_IF_ERROR(Each<UserRecord>(
        "users", [](const UserRecord&) { return absl::OkStatus(); }));
    return Each<TokenRecord>("tokens", [&](const TokenRecord& record) {
      return Need<UserRecord>("a token", "user", record.user());
    });
  }

  void CheckBlob(const NamedBlob& named) {
    auto digest = Digest::Parse(named.sha256);
    if (!digest.ok()) {
      Report(named.record,
             absl::StrCat("blob '", named.sha256, "' is not a SHA-256"));
      return;
    }
    auto stat = blobs_.Stat(*digest);
    if (!stat.ok()) {
      Report(named.record, absl::StrCat("blob ", named.sha256, ": ",
                                        stat.status().message()));
      return;
    }
    if (named.size_bytes >= 0 && stat->size_bytes != named.size_bytes) {
      Report(named.record,
             absl::StrCat("blob ", named.sha256, " has ", stat->size_bytes,
                          " bytes and not ", named.size_bytes));
    }
    if (seen_.insert(*digest).second) {
      response_.set_blobs(response_.blobs() + 1);
      if (how_ == BlobCheck::kContent) CheckContent(*digest);
    }
    if (auto it = damaged_.find(*digest); it != damaged_.end()) {
      Report(named.record, it->second);
    }
  }

  void CheckContent(const Digest& digest) {
    absl::Status read = VerifyBlob(blobs_, digest, [] { return true; });
    damaged_.erase(digest);
    if (!read.ok()) damaged_[digest] = std::string(read.message());
  }

  // What the scrub found.
  absl::Status CheckDamaged() {
    return Each<DamagedBlobRecord>(
        "damaged blobs", [&](const DamagedBlobRecord& record) -> absl::Status {
          auto digest = Digest::Parse(record.blob().sha256());
          if (digest.ok()) damaged_[*digest] = record.blob().message();
          return absl::OkStatus();
        });
  }

  const HubReader& reader_;
  const BlobStore& blobs_;
  const BlobCheck how_;
  v1::CheckResponse response_;
  absl::flat_hash_set<Digest> seen_;
  // What is wrong with them.
  absl::flat_hash_map<Digest, std::string> damaged_;
};

}  // namespace

absl::StatusOr<v1::CheckResponse> CheckStore(const HubReader& reader,
                                             const BlobStore& blobs,
                                             BlobCheck how) {
  return Inspection(reader, blobs, how).Run();
}

}  // namespace cairn
