#ifndef CAIRN_MERGE_WORKER_MODEL_PATCHES_H_
#define CAIRN_MERGE_WORKER_MODEL_PATCHES_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/checkpoint.h"
#include "merge/model/load_model.h"
#include "merge/model/model.h"
#include "merge/worker/job_context.h"

namespace cairn {

// How the weights of a job are loaded, by its spec (EvaluateSpec, SearchSpec).
absl::StatusOr<LoadOptions> LoadOptionsOf(const std::string& dtype,
                                          bool torchscript,
                                          const JobContext& context);
template <typename Spec>
absl::StatusOr<LoadOptions> LoadOptionsOf(const Spec& spec,
                                          const JobContext& context) {
  return LoadOptionsOf(spec.dtype(), spec.torchscript(), context);
}

// Sets every parameter that `update` touches to what `weights` holds plus the
// update's change against its own base, in float32, whatever `threads`.
absl::Status SetUpdated(const JobUpdate& update, const Checkpoint& weights,
                        int threads, Model& model);

// Sets the parameters whose digests in `manifest` differ from those in
// `loaded` (the manifest of what the model was loaded from) to what `weights`
// holds.
absl::Status SetChanged(const Checkpoint& weights,
                        const v1::TensorManifest& manifest,
                        const v1::TensorManifest& loaded, Model& model);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_MODEL_PATCHES_H_
