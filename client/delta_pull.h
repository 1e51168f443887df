#ifndef CAIRN_CLIENT_DELTA_PULL_H_
#define CAIRN_CLIENT_DELTA_PULL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/release.pb.h"
#include "core/delta/delta_pack.h"
#include "core/rpc/hub_channel.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// The release that a directory was pulled as.
struct HeldRelease {
  std::string directory;
  std::string name;
  std::string digest;
};

// What cairn-release.json in `directory` says, if it is one that verifies;
// whether the files are still those is not looked at.
std::optional<HeldRelease> ReadHeldRelease(const std::string& directory,
                                           const std::string& root_fingerprint);

struct DeltaPullOptions {
  // Where the delta is kept while files are rebuilt.
  std::string scratch;
  int threads = 2;
  // Told what is waited for; may be null.
  std::function<void(absl::string_view)> note;
};

// Rebuilds safetensors files of a release from those of another release that
// is on this machine and the delta between both. Not thread-safe.
class DeltaPull {
 public:
  // Fetches the delta from `held` to `release`, having asked for it and waited
  // a while when the hub has none. Null when there is none that saves
  // anything: then files are fetched whole.
  static absl::StatusOr<std::unique_ptr<DeltaPull>> Fetch(
      HubChannel& hub, const v1::Release& release, const HeldRelease& held,
      const DeltaPullOptions& options);

  // Makes `file` at `path`, checked against its digest and durable. False when
  // that cannot be done from what is here: fetch it whole. A tensor that is
  // damaged on either side is fetched from the hub by itself.
  absl::StatusOr<bool> Rebuild(const v1::File& file, const std::string& path);

  // Size of the delta, and bytes of tensors that were fetched beside it.
  int64_t delta_bytes() const { return delta_bytes_; }
  int64_t fetched_bytes() const { return fetched_bytes_; }

 private:
  DeltaPull(HubChannel& hub, const v1::Release& release, int threads,
            DeltaPack delta, Checkpoint from, int64_t delta_bytes);
  // Puts bytes of a file in their place, as the hub has them.
  absl::Status FetchTensor(const std::string& file, const TensorEntry& tensor,
                           int fd);
  // Fetches the tensors of a file that are not what the release says.
  absl::Status Repair(const std::string& file, const std::string& path, int fd);

  HubChannel& hub_;
  const v1::Release& release_;
  const int threads_;
  const DeltaPack delta_;
  const Checkpoint from_;
  const int64_t delta_bytes_;
  int64_t fetched_bytes_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CLIENT_DELTA_PULL_H_
