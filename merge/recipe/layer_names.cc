#include "merge/recipe/layer_names.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace cairn {

std::string LayerName::Join(int64_t other_layer) const {
  return absl::StrCat(stack, ".", other_layer, ".", rest);
}

std::optional<LayerName> ParseLayerName(absl::string_view tensor) {
  static constexpr std::array<const char*, 5> kStacks = {"layers", "h", "layer",
                                                         "blocks", "block"};
  const std::vector<std::string> parts = absl::StrSplit(tensor, '.');
  for (size_t i = 0; i + 2 < parts.size(); ++i) {
    int64_t layer = 0;
    const bool is_stack =
        std::find(kStacks.begin(), kStacks.end(), parts[i]) != kStacks.end();
    if (!is_stack || !absl::SimpleAtoi(parts[i + 1], &layer) || layer < 0) {
      continue;
    }
    const auto middle = parts.begin() + static_cast<ptrdiff_t>(i);
    return LayerName{.stack = absl::StrJoin(parts.begin(), middle + 1, "."),
                     .layer = layer,
                     .rest = absl::StrJoin(middle + 2, parts.end(), ".")};
  }
  return std::nullopt;
}

bool IsBeforeLayers(absl::string_view tensor) {
  return absl::StrContains(tensor, "embed") ||
         absl::StrContains(tensor, "wte") || absl::StrContains(tensor, "wpe");
}

}  // namespace cairn
