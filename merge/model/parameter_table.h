#ifndef CAIRN_MERGE_MODEL_PARAMETER_TABLE_H_
#define CAIRN_MERGE_MODEL_PARAMETER_TABLE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace cairn {

// A parameter that a checkpoint must have.
struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
};

// Parameters by the name that they have in the checkpoint.
using ParameterMap = std::map<std::string, at::Tensor, std::less<>>;
// Shapes of tensors by name.
using ShapeMap = std::map<std::string, std::vector<int64_t>, std::less<>>;

// The parameters of a model: declared once, by name and shape, by the code
// that will use them; then filled, and replaced one by one. Declaring gives
// the address of the value, which stays.
class ParameterTable {
 public:
  ParameterTable() = default;
  ParameterTable(const ParameterTable&) = delete;
  ParameterTable& operator=(const ParameterTable&) = delete;

  // A name is declared once.
  const at::Tensor* Declare(const std::string& name,
                            std::vector<int64_t> shape);

  // In the order of declaration.
  const std::vector<ParameterSpec>& specs() const { return specs_; }
  const ParameterMap& values() const { return values_; }

  // Whether `tensors` are exactly the declared ones. DATA_LOSS: UNKNOWN_TENSOR
  // for a missing or an additional tensor, SHAPE_MISMATCH for another shape,
  // which they name.
  absl::Status Check(const ShapeMap& tensors) const;

  // Sets all values; they are of one type and on one device. Errors as Check.
  absl::Status Fill(ParameterMap values);

  // Replaces a value by a tensor of the same shape, which is shared, not
  // copied, unless its type or device differ. NOT_FOUND for an unknown name,
  // INVALID_ARGUMENT with SHAPE_MISMATCH for another shape.
  absl::Status Set(absl::string_view name, const at::Tensor& value);

 private:
  std::vector<ParameterSpec> specs_;
  ParameterMap values_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_PARAMETER_TABLE_H_
