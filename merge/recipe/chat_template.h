#ifndef CAIRN_MERGE_RECIPE_CHAT_TEMPLATE_H_
#define CAIRN_MERGE_RECIPE_CHAT_TEMPLATE_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"
#include "merge/recipe/recipe.h"
#include "merge/recipe/recipe_plan.h"

namespace cairn {

// The chat template among a model's files, as transformers finds it:
// chat_template.jinja, else what tokenizer_config.json says; of several the
// one named "default". Empty when there is none.
absl::StatusOr<std::string> ReadChatTemplate(const FileMap& files);

// The template that a recipe wants: its text, the one that it names, or under
// "auto" the one that most of the recipe's models have, without white space
// around it; of as many the first. Empty: the template stays.
absl::StatusOr<std::string> ChooseChatTemplate(const Recipe& recipe,
                                               const SourceOpener& open);

// Puts a template into the files `changed` that replace those of a model, by
// path: as chat_template.jinja, and nowhere else.
absl::Status SetChatTemplate(absl::string_view text, const FileMap& model,
                             std::map<std::string, std::string>& changed);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_CHAT_TEMPLATE_H_
