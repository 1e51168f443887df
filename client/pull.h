#ifndef CAIRN_CLIENT_PULL_H_
#define CAIRN_CLIENT_PULL_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/release.pb.h"
#include "client/progress.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

struct PullOptions {
  // SHA-256 of the trusted root key, hex; empty trusts the hub's word.
  std::string root_fingerprint;
  std::function<std::unique_ptr<ProgressMeter>(const std::string& label,
                                               int64_t total_bytes)>
      meter;
};

// Makes `directory` hold the files of a release, byte for byte, and nothing of
// another release. Everything is fetched and checked (SHA-256 of each file,
// signature of cairn-release.json) in DIRECTORY/.cairn-partial first, which a
// later call continues; cairn-release.json gets its place last, so that a
// directory that was cut short never looks whole. Files that are there already
// are kept by digest. FAILED_PRECONDITION when the directory holds something
// else; DATA_LOSS when what came is not what was published.
absl::Status PullRelease(HubChannel& hub, const v1::Release& release,
                         const std::string& directory,
                         const PullOptions& options);

// The release's cairn-release.json, checked against its digest and the root.
absl::StatusOr<std::string> FetchReleaseDocument(
    HubChannel& hub, const v1::Release& release,
    absl::string_view root_fingerprint);

}  // namespace cairn

#endif  // CAIRN_CLIENT_PULL_H_
