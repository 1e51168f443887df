#ifndef CAIRN_CLIENT_BASE_FINDER_H_
#define CAIRN_CLIENT_BASE_FINDER_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/release.pb.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// What is known of the base of an update.
struct BaseHints {
  // What the user said: a reference within the model.
  std::string reference;
  // A digest that the update's own files name ("sha256:..."), which then
  // decides.
  std::string digest;
  // Directory of the base, as the trainer noted it.
  std::string path;
  // Revision of the base, as the trainer noted it.
  std::string revision;
};

struct FoundBase {
  v1::Release release;
  // Nothing told which base it is: latest was taken.
  bool is_inferred = false;
  // A local directory that holds exactly this release.
  std::optional<std::string> directory;
};

// Finds the release that an update was made on: by `reference`; else by
// `digest`; else by cairn-release.json in the directory `path`, by that
// directory's own digest, by `revision`; else latest. NOT_FOUND for a
// reference that there is not; FAILED_PRECONDITION with BASE_DIGEST_MISMATCH
// when `digest` is no release of the model.
absl::StatusOr<FoundBase> FindBase(HubChannel& hub, const std::string& model,
                                   const BaseHints& hints);

// The release of any reference.
absl::StatusOr<v1::Release> GetRelease(HubChannel& hub,
                                       const std::string& name);

}  // namespace cairn

#endif  // CAIRN_CLIENT_BASE_FINDER_H_
