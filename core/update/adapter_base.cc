#include "core/update/adapter_base.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/adapter_contents.h"
#include "core/update/module_names.h"
#include "core/update/update.h"

namespace cairn {

bool AdapterBase::Has(const std::string& name) const {
  return base_ != nullptr && FindTensor(*base_->tensors, name) != nullptr;
}

std::string AdapterBase::NameOf(const std::string& parameter) const {
  if (base_ == nullptr) return NameInFiles(parameter);
  for (const std::string& name :
       {parameter, NameInFiles(parameter), NameInMemory(parameter)}) {
    if (Has(name)) return name;
  }
  return parameter;
}

DType AdapterBase::DTypeOf(const std::string& name, DType otherwise) const {
  const v1::Tensor* tensor =
      base_ == nullptr ? nullptr : FindTensor(*base_->tensors, name);
  if (tensor == nullptr) return otherwise;
  return ParseDType(tensor->dtype()).value_or(otherwise);
}

absl::StatusOr<std::vector<int64_t>> AdapterBase::ShapeOf(
    const std::string& name, const TensorEntry& entry,
    std::optional<std::vector<int64_t>> implied) const {
  if (const auto own = shapes_.find(name); own != shapes_.end()) {
    return own->second;
  }
  if (base_ == nullptr) {
    if (!implied.has_value()) return NeedsBase(entry);
    return *std::move(implied);
  }
  const v1::Tensor* tensor = FindTensor(*base_->tensors, name);
  const auto dtype =
      tensor == nullptr ? std::optional<DType>() : ParseDType(tensor->dtype());
  if (!dtype.has_value() || !IsNumeric(*dtype)) {
    return RefuseTensor(
        "UNKNOWN_TENSOR", entry.name,
        absl::StrCat(
            "changes ", name, ", which the base ",
            tensor == nullptr ? "does not have" : "does not have as numbers",
            "; nearest are ", NearestNames(*base_->tensors, name)));
  }
  return std::vector<int64_t>(tensor->shape().begin(), tensor->shape().end());
}

absl::Status AdapterBase::NeedsBase(const TensorEntry& entry) const {
  return absl::FailedPreconditionError(
      absl::StrCat(kAdapterWeightsFile, ": tensor ", JsonQuote(entry.name),
                   " does not say which shape it changes: name the base, too"));
}

}  // namespace cairn
