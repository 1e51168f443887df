#ifndef CAIRN_CORE_UPDATE_TESTING_F32_BASE_H_
#define CAIRN_CORE_UPDATE_TESTING_F32_BASE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cairn/v1/common.pb.h"

namespace cairn::testing {

// The manifest of a base of float32 tensors of these shapes, as far as updates
// are held against it.
inline v1::TensorManifest F32Base(
    const std::map<std::string, std::vector<int64_t>>& shapes) {
  v1::TensorManifest base;
  for (const auto& [name, shape] : shapes) {
    v1::Tensor& tensor = *base.add_tensors();
    tensor.set_name(name);
    tensor.set_dtype("F32");
    for (const int64_t length : shape) tensor.add_shape(length);
  }
  return base;
}

}  // namespace cairn::testing

#endif  // CAIRN_CORE_UPDATE_TESTING_F32_BASE_H_
