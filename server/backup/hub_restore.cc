#include "server/backup/hub_restore.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/store/v1/upload.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "server/backup/backup_folder.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/schema.h"
#include "server/ops/record_walk.h"
#include "server/ops/store_check.h"
#include "server/setup/hub_setup.h"
#include "storage/blob_scrubber.h"
#include "storage/rocksdb/rocksdb_metadata_store.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

using store::v1::UploadRecord;

absl::Status RefuseExisting(const std::string& data_dir) {
  std::error_code error;
  if (!fs::exists(data_dir, error)) return absl::OkStatus();
  if (fs::is_directory(data_dir, error) && fs::is_empty(data_dir, error)) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError(
      absl::StrCat(data_dir,
                   " exists and is not empty; a hub is restored into "
                   "a directory that does not exist"));
}

absl::StatusOr<std::string> ChooseSnapshot(const RestoreOptions& options) {
  auto names = ListSnapshots(options.backup);
  if (!names.ok() || names->empty()) {
    return absl::NotFoundError(
        absl::StrCat(options.backup, " holds no complete backup of a hub"));
  }
  if (options.snapshot.empty()) return names->back();
  if (std::find(names->begin(), names->end(), options.snapshot) !=
      names->end()) {
    return options.snapshot;
  }
  return absl::NotFoundError(absl::StrCat(options.backup, " has no snapshot ",
                                          options.snapshot, "; it has ",
                                          absl::StrJoin(*names, ", ")));
}

absl::Status CopyTree(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::copy(from, to, fs::copy_options::recursive, error);
  if (!error) return absl::OkStatus();
  return SystemError(error.value(), absl::StrCat("copy ", from, " to ", to));
}

// Reads every blob in the backup, then takes it over.
absl::StatusOr<int64_t> RestoreBlobs(const std::string& backup,
                                     const std::set<Digest>& needed,
                                     FsBlobStore& blobs) {
  CAIRN_ASSIGN_OR_RETURN(auto from, FsBlobStore::Open(backup));
  BlobTransfer transfer(*from, blobs);
  for (const Digest& digest : needed) {
    absl::Status sound = VerifyBlob(*from, digest, [] { return true; });
    if (absl::IsNotFound(sound)) {
      return absl::DataLossError(absl::StrCat(
          "the backup lacks blob ", digest.hex(), ", which its records need"));
    }
    CAIRN_RETURN_IF_ERROR(sound);
    CAIRN_RETURN_IF_ERROR(transfer.Take(digest));
  }
  return static_cast<int64_t>(needed.size());
}

absl::Status ForgetUploads(HubStore& store) {
  CAIRN_ASSIGN_OR_RETURN(auto open,
                         store.Read().ListAll<UploadRecord>("", SIZE_MAX));
  return store.Transact([&](HubTransaction& txn) -> absl::Status {
    for (const UploadRecord& record : open) {
      CAIRN_RETURN_IF_ERROR(txn.Delete<UploadRecord>(record.name()));
    }
    return absl::OkStatus();
  });
}

absl::Status CheckRestored(const HubReader& reader, const BlobStore& blobs) {
  CAIRN_ASSIGN_OR_RETURN(v1::CheckResponse found,
                         CheckStore(reader, blobs, BlobCheck::kPresence));
  if (found.problems().empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the backup is not sound, ",
                                          found.problems_size(),
                                          " problems: ", found.problems(0)));
}

// Fills `dir`; returns how many blobs it has.
absl::StatusOr<int64_t> Fill(const RestoreOptions& options,
                             const std::string& snapshot,
                             const std::string& dir, Clock& clock) {
  CAIRN_RETURN_IF_ERROR(
      CopyTree(snapshot + "/metadata", MetadataDirectory(dir)));
  CAIRN_RETURN_IF_ERROR(CopyIdentity(snapshot, dir));
  CAIRN_ASSIGN_OR_RETURN(auto blobs, FsBlobStore::Open(BlobDirectory(dir)));
  CAIRN_ASSIGN_OR_RETURN(
      auto needed, ReadBlobList(absl::StrCat(snapshot, "/", kBlobListFile)));
  CAIRN_ASSIGN_OR_RETURN(int64_t count,
                         RestoreBlobs(options.backup, needed, *blobs));
  CAIRN_ASSIGN_OR_RETURN(
      auto metadata,
      RocksMetadataStore::Open(MetadataDirectory(dir), HubSchema()));
  HubStore store(*metadata, clock);
  CAIRN_RETURN_IF_ERROR(CheckRestored(store.Read(), *blobs));
  CAIRN_RETURN_IF_ERROR(ForgetUploads(store));
  CAIRN_RETURN_IF_ERROR(MakeAdminHome(dir, options.address, *metadata, clock));
  CAIRN_RETURN_IF_ERROR(blobs->SyncFileSystem());
  return count;
}

}  // namespace

absl::StatusOr<RestoreReport> RestoreHub(const RestoreOptions& options,
                                         Clock& clock) {
  std::string data_dir = fs::absolute(options.data_dir).lexically_normal();
  while (data_dir.size() > 1 && data_dir.back() == '/') data_dir.pop_back();
  CAIRN_RETURN_IF_ERROR(RefuseExisting(data_dir));
  CAIRN_ASSIGN_OR_RETURN(std::string name, ChooseSnapshot(options));
  // Built beside its place, so that an interrupted restore leaves no hub.
  const std::string dir =
      absl::StrCat(data_dir, ".restore-", ToHex(RandomBytes(4)));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(dir, 0700));
  absl::Cleanup remove = [&dir] {
    std::error_code ignored;
    fs::remove_all(dir, ignored);
  };
  RestoreReport report;
  report.snapshot = name;
  CAIRN_ASSIGN_OR_RETURN(
      report.blobs,
      Fill(options, absl::StrCat(SnapshotsPath(options.backup), "/", name), dir,
           clock));
  if (rename(dir.c_str(), data_dir.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("rename ", dir, " to ", data_dir));
  }
  std::move(remove).Cancel();
  report.admin_home = data_dir + "/admin";
  return report;
}

}  // namespace cairn
