#ifndef CAIRN_MERGE_EVAL_APPLY_UPDATE_H_
#define CAIRN_MERGE_EVAL_APPLY_UPDATE_H_

#include "absl/status/status.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"
#include "merge/engine/model_source.h"
#include "merge/model/parameter_patch.h"

namespace cairn {

// Sets the parameters that `update` touches to base + tau, in F32 and rounded
// to the model's type only, for as long as the patch lives. The model was
// loaded from `base`, which the update fits (see CheckFits). The result does
// not depend on `threads`.
absl::Status ApplyUpdate(const Update& update, const Checkpoint& base,
                         int threads, ParameterPatch& patch);

// Likewise for what adapters do to `base`, the checkpoint that the model was
// loaded from. UNSUPPORTED, naming the tensor, for an adapter that brings new
// tensors or others of another shape.
absl::Status ApplyEffects(const ModelEffects& effects, const Checkpoint& base,
                          int threads, ParameterPatch& patch);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_APPLY_UPDATE_H_
