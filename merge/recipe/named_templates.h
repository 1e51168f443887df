#ifndef CAIRN_MERGE_RECIPE_NAMED_TEMPLATES_H_
#define CAIRN_MERGE_RECIPE_NAMED_TEMPLATES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// The chat template in Jinja that recipes call by a name, or empty: "alpaca",
// "chatml", "exaone", "llama3" and "mistral", the names that mergekit has. Each
// renders the format that models of that name were trained on. The texts of
// mergekit differ: its alpaca, exaone and llama3 come out with white space
// that those formats do not have.
absl::string_view NamedChatTemplate(absl::string_view name);

// The names, sorted and parted by ", ".
std::string ChatTemplateNames();

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_NAMED_TEMPLATES_H_
