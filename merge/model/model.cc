#include "merge/model/model.h"

#include "core/base/status_macros.h"

namespace cairn {

absl::StatusOr<at::Tensor> Model::Forward(const at::Tensor& ids) const {
  CAIRN_ASSIGN_OR_RETURN(const at::Tensor hidden, Hidden(ids));
  return Logits(hidden);
}

at::ScalarType Model::dtype() const {
  return parameters().begin()->second.scalar_type();
}

at::Device Model::device() const {
  return parameters().begin()->second.device();
}

}  // namespace cairn
