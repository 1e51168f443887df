#ifndef CAIRN_CORE_UPDATE_ADAPTER_BASE_H_
#define CAIRN_CORE_UPDATE_ADAPTER_BASE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/safetensors.h"
#include "core/update/base_model.h"

namespace cairn {

// The base as the reader of an adapter asks for it. It may be unknown; shapes
// are then those that the adapter implies.
class AdapterBase {
 public:
  // `base` outlives it; null when it is not known.
  explicit AdapterBase(const BaseModel* base) : base_(base) {}

  bool is_unknown() const { return base_ == nullptr; }
  const v1::TensorManifest& tensors() const { return *base_->tensors; }
  absl::string_view config_json() const { return base_->config_json; }

  bool Has(const std::string& name) const;
  // The base's own name for a parameter that may go by the one that it has in
  // memory; that of files where the base is unknown.
  std::string NameOf(const std::string& parameter) const;
  DType DTypeOf(const std::string& name, DType otherwise) const;
  // The shape of a tensor that `entry` of an adapter's file changes:
  // UNKNOWN_TENSOR when the base has no such tensor of numbers,
  // FAILED_PRECONDITION when the base is unknown and nothing is implied.
  absl::StatusOr<std::vector<int64_t>> ShapeOf(
      const std::string& name, const TensorEntry& entry,
      std::optional<std::vector<int64_t>> implied) const;
  // That an adapter says too little without its base.
  absl::Status NeedsBase(const TensorEntry& entry) const;

  // From now on the tensor has this shape.
  void Override(const TensorSpec& spec) { shapes_[spec.name] = spec.shape; }

 private:
  const BaseModel* const base_;
  std::map<std::string, std::vector<int64_t>> shapes_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_ADAPTER_BASE_H_
