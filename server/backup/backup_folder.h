#ifndef CAIRN_SERVER_BACKUP_BACKUP_FOLDER_H_
#define CAIRN_SERVER_BACKUP_BACKUP_FOLDER_H_

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"
#include "storage/fs/fs_blob_store.h"

// What backups and restores agree on: where things are in a backup's
// directory, and which blobs a snapshot needs.
namespace cairn {

// The directory of the snapshots, and the list of blobs in each.
std::string SnapshotsPath(const std::string& directory);
inline constexpr char kBlobListFile[] = "blobs.txt";
inline constexpr char kSummaryFile[] = "backup.json";

// Complete snapshots by name, which is the order of their times.
absl::StatusOr<std::vector<std::string>> ListSnapshots(
    const std::string& directory);

// Every blob that the records need. DATA_LOSS naming the record for a name
// that is no digest.
absl::StatusOr<std::set<Digest>> NeededBlobs(const HubReader& reader,
                                             const BlobStore& blobs);

// A snapshot's list of blobs, one digest a line, and back.
std::string FormatBlobList(const std::set<Digest>& blobs);
absl::StatusOr<std::set<Digest>> ReadBlobList(const std::string& path);

// Copies the files of tls/ and keys/ but for the root's key, with their modes.
absl::Status CopyIdentity(const std::string& from, const std::string& to);

// Takes blobs over by link or, where that cannot be, by copy.
class BlobTransfer {
 public:
  // Both must outlive it.
  BlobTransfer(const FsBlobStore& from, FsBlobStore& to)
      : from_(from), to_(to) {}

  absl::Status Take(const Digest& digest);

 private:
  const FsBlobStore& from_;
  FsBlobStore& to_;
  FsBlobStore::Transfer how_ = FsBlobStore::Transfer::kLink;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_BACKUP_BACKUP_FOLDER_H_
