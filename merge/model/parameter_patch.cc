#include "merge/model/parameter_patch.h"

#include <string>
#include <utility>

#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace cairn {

ParameterPatch::~ParameterPatch() {
  for (const auto& [name, original] : originals_) {
    CAIRN_CHECK(model_.SetParameter(name, original).ok());
  }
}

absl::Status ParameterPatch::Set(absl::string_view name,
                                 const at::Tensor& value) {
  const auto current = model_.parameters().find(name);
  at::Tensor original;
  if (current != model_.parameters().end()) original = current->second;
  CAIRN_RETURN_IF_ERROR(model_.SetParameter(name, value));
  originals_.emplace(std::string(name), std::move(original));
  return absl::OkStatus();
}

}  // namespace cairn
