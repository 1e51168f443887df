#include "merge/recipe/output_config.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

Json Parse(absl::string_view text) {
  if (IsDeepJson(text)) return Json::value_t::discarded;
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

}  // namespace

absl::StatusOr<std::string> MakeOutputConfig(absl::string_view config_json,
                                             absl::string_view label,
                                             absl::string_view torch_dtype,
                                             int64_t layers) {
  Json config = Parse(config_json);
  if (!config.is_object()) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         absl::StrCat(label, "/config.json: is no JSON object"),
                         {{"file", "config.json"}});
  }
  if (!torch_dtype.empty()) {
    const char* key = config.contains("dtype") ? "dtype" : "torch_dtype";
    config[key] = std::string(torch_dtype);
  }
  for (const char* key : {"num_hidden_layers", "n_layer", "num_layers"}) {
    if (layers >= 0 && config.contains(key)) config[key] = layers;
  }
  // One entry a layer: cut, or go on as the last.
  if (layers >= 0 && config.contains("layer_types") &&
      config["layer_types"].is_array() && !config["layer_types"].empty()) {
    Json& types = config["layer_types"];
    const Json last = types.back();
    while (types.size() > static_cast<size_t>(layers)) {
      types.erase(types.size() - 1);
    }
    while (types.size() < static_cast<size_t>(layers)) types.push_back(last);
  }
  return config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cairn
