#ifndef CAIRN_CLIENT_PULL_H_
#define CAIRN_CLIENT_PULL_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/release.pb.h"
#include "client/progress.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// What a pull moved.
struct PullSummary {
  // Bytes of the release's files.
  int64_t total_bytes = 0;
  // Bytes that came from the hub for them.
  int64_t fetched_bytes = 0;
  // The release whose files the others were made of, and the delta that made
  // them; empty and 0 without.
  std::string from;
  int64_t delta_bytes = 0;
};

struct PullOptions {
  // SHA-256 of the trusted root key, hex; empty trusts the hub's word.
  std::string root_fingerprint;
  // A directory that was pulled before: what is the same is copied from it,
  // and of what is not only the difference is fetched. Empty: the directory
  // that is pulled into.
  std::string from;
  // Whether differences are asked for at all.
  bool use_deltas = true;
  // Threads that rebuild files from differences.
  int threads = 2;
  // Told what is waited for; may be null.
  std::function<void(absl::string_view)> note;
  std::function<std::unique_ptr<ProgressMeter>(const std::string& label,
                                               int64_t total_bytes)>
      meter;
};

// Makes `directory` hold the files of a release, byte for byte, and nothing of
// another release. Everything is fetched and checked (SHA-256 of each file,
// signature of cairn-release.json) in DIRECTORY/.cairn-partial first, which a
// later call continues; cairn-release.json gets its place last, so that a
// directory that was cut short never looks whole. Files that are there already
// are kept by digest, and files of which the release that was there before, or
// that lies in options.from, has most are made of it and a delta (DeltaPull).
// FAILED_PRECONDITION when the directory holds something
// else; DATA_LOSS when what came is not what was published.
absl::StatusOr<PullSummary> PullRelease(HubChannel& hub,
                                        const v1::Release& release,
                                        const std::string& directory,
                                        const PullOptions& options);

// The release's cairn-release.json, checked against its digest and the root.
absl::StatusOr<std::string> FetchReleaseDocument(
    HubChannel& hub, const v1::Release& release,
    absl::string_view root_fingerprint);

}  // namespace cairn

#endif  // CAIRN_CLIENT_PULL_H_
