#ifndef CAIRN_MERGE_MODEL_PARAMETER_PATCH_H_
#define CAIRN_MERGE_MODEL_PARAMETER_PATCH_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "merge/model/model.h"

namespace cairn {

// Parameters of a model that are replaced for a while: the destructor puts
// back what stood there, so that the model is bit for bit what it was. Nobody
// runs the model while parameters change; it outlives the patch.
class ParameterPatch {
 public:
  explicit ParameterPatch(Model& model) : model_(model) {}
  ~ParameterPatch();
  ParameterPatch(const ParameterPatch&) = delete;
  ParameterPatch& operator=(const ParameterPatch&) = delete;

  // As Model::SetParameter.
  absl::Status Set(absl::string_view name, const at::Tensor& value);

 private:
  Model& model_;
  ParameterMap originals_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_PARAMETER_PATCH_H_
