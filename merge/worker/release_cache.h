#ifndef CAIRN_MERGE_WORKER_RELEASE_CACHE_H_
#define CAIRN_MERGE_WORKER_RELEASE_CACHE_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/job.pb.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// Releases on disk, one folder a digest, so that the jobs of a model download
// its head once. Not thread-safe.
class ReleaseCache {
 public:
  // Folders are made in `directory`, which exists. Past `bytes_max`, releases
  // that were not used longest are removed before another one is fetched.
  ReleaseCache(std::string directory, int64_t bytes_max);

  const std::string& directory() const { return directory_; }

  // Makes sure that the release's files are there, each checked against its
  // digest; an interrupted download is continued. Never removes what is named
  // in `in_use` (digests as in the spec).
  absl::Status Fetch(HubChannel& hub, const v1::ReleaseInput& release,
                     const std::set<std::string>& in_use);

  // Forgets a release whose files turned out to be damaged.
  void Remove(absl::string_view digest);

 private:
  std::string FolderOf(absl::string_view digest) const;
  void MakeRoom(int64_t bytes, const std::set<std::string>& in_use);

  const std::string directory_;
  const int64_t bytes_max_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_RELEASE_CACHE_H_
