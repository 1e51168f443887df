#ifndef CAIRN_CORE_TENSOR_SAFETENSORS_HEADER_PARSER_H_
#define CAIRN_CORE_TENSOR_SAFETENSORS_HEADER_PARSER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/tensor/safetensors.h"

namespace cairn::internal {

// Reads the JSON text of a safetensors header into `tensors` (offsets as they
// stand, not yet checked against each other) and `metadata`, without building
// a tree: memory stays within what well-formed entries take.
absl::Status ParseHeaderText(absl::string_view text, absl::string_view label,
                             std::vector<TensorEntry>& tensors,
                             std::map<std::string, std::string>& metadata);

}  // namespace cairn::internal

#endif  // CAIRN_CORE_TENSOR_SAFETENSORS_HEADER_PARSER_H_
