#ifndef CAIRN_CORE_UPDATE_MODULE_NAMES_H_
#define CAIRN_CORE_UPDATE_MODULE_NAMES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// transformers 5 gives ViT's modules other names in memory than in the files
// that it goes on writing, and peft names an adapter's modules as they are in
// memory: "vit.layers.0.attention.q_proj" of an adapter is
// "vit.encoder.layer.0.attention.attention.query" in its base. These translate
// the name of a module or of one of its parameters, and leave a name that is
// the same in both as it is. Adapters of older versions have the names of
// files.
std::string NameInFiles(absl::string_view name);
std::string NameInMemory(absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_MODULE_NAMES_H_
