#include "server/backup/hub_backup.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/backup/backup_folder.h"
#include "server/flow/schema.h"
#include "server/setup/hub_keys.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

std::string Plain(const std::string& path) {
  std::string text = fs::weakly_canonical(path).string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

absl::Status CheckDirectory(const std::string& directory,
                            const std::string& data_dir) {
  if (!absl::StartsWith(directory, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("directory '", directory,
                     "' is not an absolute path on the hub's machine"));
  }
  const std::string place = Plain(directory) + "/";
  const std::string data = Plain(data_dir) + "/";
  if (absl::StartsWith(place, data) || absl::StartsWith(data, place)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "directory '", directory, "' and the hub's data directory ", data_dir,
        " lie in each other; name one beside it, best on another disk"));
  }
  std::error_code error;
  if (!fs::exists(directory, error) || fs::is_empty(directory, error) ||
      fs::is_directory(SnapshotsPath(directory), error)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      directory,
      " holds other things than backups of a hub; name an empty or "
      "new directory"));
}

// The earlier backups in a directory must be of this hub.
absl::Status CheckHub(const std::string& directory, const std::string& hub_id) {
  CAIRN_ASSIGN_OR_RETURN(auto snapshots, ListSnapshots(directory));
  if (snapshots.empty()) return absl::OkStatus();
  const std::string path = absl::StrCat(SnapshotsPath(directory), "/",
                                        snapshots.back(), "/", kSummaryFile);
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  auto summary = nlohmann::json::parse(text, nullptr, false);
  if (summary.is_object() && summary.value("hub_id", "") == hub_id) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(directory, " holds backups of another hub"));
}

// Removes all but the newest snapshots, then the blobs that only those needed.
absl::StatusOr<std::vector<std::string>> Prune(const std::string& directory,
                                               size_t keep,
                                               FsBlobStore& blobs) {
  CAIRN_ASSIGN_OR_RETURN(auto names, ListSnapshots(directory));
  if (keep == 0 || names.size() <= keep) return std::vector<std::string>();
  const auto kept = names.end() - static_cast<std::ptrdiff_t>(keep);
  const std::string snapshots = SnapshotsPath(directory) + "/";
  std::set<Digest> needed;
  for (auto name = kept; name != names.end(); ++name) {
    CAIRN_ASSIGN_OR_RETURN(
        auto list,
        ReadBlobList(absl::StrCat(snapshots, *name, "/", kBlobListFile)));
    needed.merge(list);
  }
  for (auto name = names.begin(); name != kept; ++name) {
    std::error_code error;
    fs::remove(snapshots + *name + "/" + kSummaryFile, error);
    fs::remove_all(snapshots + *name, error);
    if (error) {
      return SystemError(error.value(), absl::StrCat("remove ", *name));
    }
  }
  std::vector<Digest> old;
  CAIRN_RETURN_IF_ERROR(blobs.List([&](const BlobStat& stat) {
    if (!needed.contains(stat.digest)) old.push_back(stat.digest);
    return true;
  }));
  for (const Digest& digest : old) {
    CAIRN_RETURN_IF_ERROR(blobs.Remove(digest));
  }
  return std::vector<std::string>(names.begin(), kept);
}

// Adds what the snapshot needs and the target does not have.
absl::Status CopyBlobs(const FsBlobStore& from, FsBlobStore& to,
                       const std::set<Digest>& needed,
                       v1::BackupReport& report) {
  BlobTransfer transfer(from, to);
  for (const Digest& digest : needed) {
    auto there = to.Stat(digest);
    if (!there.ok()) {
      CAIRN_RETURN_IF_ERROR(transfer.Take(digest));
      there = to.Stat(digest);
      CAIRN_RETURN_IF_ERROR(there.status());
      report.set_new_blobs(report.new_blobs() + 1);
      report.set_new_bytes(report.new_bytes() + there->stored_bytes);
    }
    report.set_blobs(report.blobs() + 1);
    report.set_stored_bytes(report.stored_bytes() + there->stored_bytes);
  }
  return absl::OkStatus();
}

absl::Status WriteSummary(const std::string& path, const std::string& hub_id,
                          const v1::BackupReport& report) {
  const nlohmann::ordered_json summary = {
      {"hub_id", hub_id},
      {"snapshot", report.snapshot()},
      {"schema_version", HubSchema().version()},
      {"blobs", report.blobs()},
      {"stored_bytes", report.stored_bytes()}};
  return WriteFile(path, summary.dump(1) + "\n");
}

}  // namespace

absl::StatusOr<v1::BackupReport> HubBackup::Make(
    const v1::BackupRequest& request) {
  CAIRN_RETURN_IF_ERROR(CheckDirectory(request.directory(), data_dir_));
  if (request.keep() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "keep is ", request.keep(), " and must be 0 (all) or more"));
  }
  {
    MutexLock lock(mutex_);
    if (is_running_) {
      return absl::AbortedError("a backup is being made: wait for its end");
    }
    is_running_ = true;
  }
  absl::Cleanup end = [this] {
    MutexLock lock(mutex_);
    is_running_ = false;
  };
  // What the records of the snapshot name must stay until it was copied.
  SweepGate::Hold hold(sweeps_);
  auto made = MakeSnapshot(request);
  if (made.ok()) return made;
  return Annotate(made.status(),
                  absl::StrCat("back up to ", request.directory()));
}

absl::StatusOr<v1::BackupReport> HubBackup::MakeSnapshot(
    const v1::BackupRequest& request) {
  const std::string& directory = request.directory();
  CAIRN_ASSIGN_OR_RETURN(HubKeys keys, LoadHubKeys(data_dir_));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(directory, 0700));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(SnapshotsPath(directory), 0700));
  CAIRN_RETURN_IF_ERROR(CheckHub(directory, keys.hub_id));
  v1::BackupReport report;
  report.set_directory(directory);
  report.set_snapshot(absl::FormatTime("%Y-%m-%dT%H-%M-%E3SZ", clock_.Now(),
                                       absl::UTCTimeZone()));
  const std::string place =
      absl::StrCat(SnapshotsPath(directory), "/", report.snapshot());
  const std::string partial = place + ".partial";
  CAIRN_RETURN_IF_ERROR(MakeDirectory(partial, 0700));
  absl::Cleanup drop = [&partial] {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
  };
  CAIRN_RETURN_IF_ERROR(metadata_.Backup(partial + "/metadata"));
  CAIRN_ASSIGN_OR_RETURN(auto blobs, FsBlobStore::Open(directory));
  {
    // Of the copy, not of the store, which goes on; and it shows that the copy
    // can be opened.
    CAIRN_ASSIGN_OR_RETURN(auto copy, RocksMetadataStore::Open(
                                          partial + "/metadata", HubSchema()));
    HubStore records(*copy, clock_);
    CAIRN_ASSIGN_OR_RETURN(auto needed, NeededBlobs(records.Read(), blobs_));
    CAIRN_RETURN_IF_ERROR(CopyBlobs(blobs_, *blobs, needed, report));
    CAIRN_RETURN_IF_ERROR(WriteFile(absl::StrCat(partial, "/", kBlobListFile),
                                    FormatBlobList(needed)));
  }
  CAIRN_RETURN_IF_ERROR(CopyIdentity(data_dir_, partial));
  CAIRN_RETURN_IF_ERROR(WriteSummary(absl::StrCat(partial, "/", kSummaryFile),
                                     keys.hub_id, report));
  CAIRN_RETURN_IF_ERROR(blobs->SyncFileSystem());
  if (rename(partial.c_str(), place.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("rename ", partial));
  }
  std::move(drop).Cancel();
  CAIRN_RETURN_IF_ERROR(blobs->SyncFileSystem());
  CAIRN_ASSIGN_OR_RETURN(
      auto removed,
      Prune(directory, static_cast<size_t>(request.keep()), *blobs));
  report.mutable_removed_snapshots()->Add(removed.begin(), removed.end());
  CAIRN_LOG(kInfo, "backed up ", report.blobs(), " blobs, ", report.new_blobs(),
            " of them new, to ", place);
  return report;
}

}  // namespace cairn
