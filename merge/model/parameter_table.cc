#include "merge/model/parameter_table.h"

#include <ATen/core/Tensor.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

absl::Status UnfitTensor(absl::string_view reason, absl::string_view message,
                         absl::string_view tensor) {
  return ReasonedError(absl::StatusCode::kDataLoss, reason, message,
                       {{"tensor", std::string(tensor)}});
}

}  // namespace

const at::Tensor* ParameterTable::Declare(const std::string& name,
                                          std::vector<int64_t> shape) {
  const auto [it, is_new] = values_.try_emplace(name);
  CAIRN_CHECK(is_new);
  specs_.push_back({name, std::move(shape)});
  return &it->second;
}

absl::Status ParameterTable::Check(const ShapeMap& tensors) const {
  ShapeMap rest = tensors;
  for (const ParameterSpec& spec : specs_) {
    const auto it = rest.find(spec.name);
    if (it == rest.end()) {
      return UnfitTensor("UNKNOWN_TENSOR",
                         absl::StrCat("tensor ", spec.name, " of shape ",
                                      ShapeText(spec.shape), " is missing"),
                         spec.name);
    }
    if (it->second != spec.shape) {
      return UnfitTensor(
          "SHAPE_MISMATCH",
          absl::StrCat("tensor ", spec.name, " has shape ",
                       ShapeText(it->second), "; by config.json it should be ",
                       ShapeText(spec.shape)),
          spec.name);
    }
    rest.erase(it);
  }
  if (rest.empty()) return absl::OkStatus();
  const std::string& extra = rest.begin()->first;
  return UnfitTensor("UNKNOWN_TENSOR",
                     absl::StrCat("tensor ", extra,
                                  " is not part of the model that config.json "
                                  "describes"),
                     extra);
}

absl::Status ParameterTable::Fill(ParameterMap values) {
  ShapeMap shapes;
  for (const auto& [name, tensor] : values) {
    shapes[name] = tensor.sizes().vec();
  }
  CAIRN_RETURN_IF_ERROR(Check(shapes));
  for (auto& [name, tensor] : values) {
    values_.find(name)->second = std::move(tensor);
  }
  return absl::OkStatus();
}

absl::Status ParameterTable::Set(absl::string_view name,
                                 const at::Tensor& value) {
  const auto it = values_.find(name);
  if (it == values_.end()) {
    return ReasonedError(absl::StatusCode::kNotFound, "UNKNOWN_TENSOR",
                         absl::StrCat("the model has no tensor ", name),
                         {{"tensor", std::string(name)}});
  }
  if (value.sizes() != it->second.sizes()) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
        absl::StrCat("tensor ", name, " has shape ", TensorShapeText(value),
                     "; it should be ", TensorShapeText(it->second)),
        {{"tensor", std::string(name)}});
  }
  return CatchTorch("replacing a parameter", [&] {
    it->second = value.to(it->second.options());
    return absl::OkStatus();
  });
}

}  // namespace cairn
