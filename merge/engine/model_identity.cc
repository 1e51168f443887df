#include "merge/engine/model_identity.h"

#include <utility>

#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

constexpr int64_t kConfigBytesMax = 256 << 20;

}  // namespace

absl::StatusOr<ModelIdentity> IdentifyModel(const Checkpoint& checkpoint,
                                            int threads) {
  ModelIdentity identity;
  CAIRN_ASSIGN_OR_RETURN(identity.tensors,
                         MakeTensorManifest(checkpoint, threads));
  for (const auto& [path, source] : checkpoint.files()) {
    if (!CountsForDigest(path) || !CheckReleaseFile(path).ok()) continue;
    auto bytes = ReadAll(*source, kConfigBytesMax);
    if (!bytes.ok()) return Annotate(bytes.status(), path);
    v1::File& file = identity.files.emplace_back();
    file.set_path(path);
    file.set_size_bytes(static_cast<int64_t>(bytes->size()));
    file.set_sha256(Digest::Of(*bytes).hex());
  }
  identity.digest = ReleaseDigest(identity.tensors, identity.files);
  return identity;
}

}  // namespace cairn
