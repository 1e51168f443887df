#ifndef CAIRN_MERGE_RECIPE_LAYER_NAMES_H_
#define CAIRN_MERGE_RECIPE_LAYER_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// A tensor's place among the layers, by its name:
// "model.layers.12.mlp.up_proj.weight" is "mlp.up_proj.weight" of layer 12 of
// "model.layers".
struct LayerName {
  std::string stack;
  int64_t layer = 0;
  std::string rest;

  std::string Join(int64_t other_layer) const;
};

// None for a tensor outside the layers.
std::optional<LayerName> ParseLayerName(absl::string_view tensor);

// Whether a tensor outside the layers comes before them: embeddings.
bool IsBeforeLayers(absl::string_view tensor);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_LAYER_NAMES_H_
