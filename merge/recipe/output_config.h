#ifndef CAIRN_MERGE_RECIPE_OUTPUT_CONFIG_H_
#define CAIRN_MERGE_RECIPE_OUTPUT_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// The config.json of a merged model: that of the model `label`, with the
// element type ("" leaves it) and the number of layers (-1 leaves it, and what
// is listed for each layer) that the result has. INVALID_ARGUMENT with
// MALFORMED_FILE when the text is no JSON object.
absl::StatusOr<std::string> MakeOutputConfig(absl::string_view config_json,
                                             absl::string_view label,
                                             absl::string_view torch_dtype,
                                             int64_t layers);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_OUTPUT_CONFIG_H_
