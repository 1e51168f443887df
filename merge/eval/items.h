#ifndef CAIRN_MERGE_EVAL_ITEMS_H_
#define CAIRN_MERGE_EVAL_ITEMS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// What every item has.
struct ItemHead {
  std::string id;
  std::string group;
  std::string where;  // "gate.jsonl:5: item `x`", for messages
};

struct PerplexityItem : ItemHead {
  std::vector<int64_t> ids;  // at least 2; empty: of the text, not tokenised
  std::optional<std::string> text;
};

struct MultipleChoiceItem : ItemHead {
  // Set where context and choices are texts only, which are not tokenised yet.
  std::optional<std::string> context_text;
  std::vector<int64_t> context;               // never empty
  std::vector<std::vector<int64_t>> choices;  // at least one; none is empty
  std::vector<std::string> texts;             // of the choices, or empty
  int64_t label = 0;                          // index of a choice
};

// A text or an image with the class it is of, or the number.
struct ClassificationItem : ItemHead {
  std::vector<int64_t> ids;    // empty: an image
  std::vector<int64_t> mask;   // as long as ids, or empty
  std::vector<int64_t> types;  // likewise
  std::string pixel_file;      // beside suite.yaml
  std::string pixel_tensor;
  int64_t label = 0;
  double target = 0;  // of a regression
};

// The prompt of a class of a zero-shot suite.
struct ClassPrompt : ItemHead {
  std::vector<int64_t> ids;  // never empty
};

struct GenerationItem : ItemHead {
  std::optional<std::string> context_text;  // likewise
  std::vector<int64_t> context;  // never empty
  // What should follow: these ids, or, where texts are compared, one of these.
  std::vector<int64_t> target;
  std::vector<std::string> texts;
  std::optional<int64_t> new_tokens_max;
};

// Reads a JSONL file of items, strictly: one object a line, no unknown or
// repeated field, unique ids, no negative number. Errors as Task's; a file
// without items is one. `label` names the file.
absl::StatusOr<std::vector<PerplexityItem>> ReadPerplexityItems(
    const ByteSource& file, absl::string_view label);
absl::StatusOr<std::vector<MultipleChoiceItem>> ReadMultipleChoiceItems(
    const ByteSource& file, absl::string_view label);
absl::StatusOr<std::vector<ClassificationItem>> ReadClassificationItems(
    const ByteSource& file, absl::string_view label);
// Items whose `target` is a number in place of a label.
absl::StatusOr<std::vector<ClassificationItem>> ReadRegressionItems(
    const ByteSource& file, absl::string_view label);
absl::StatusOr<std::vector<ClassPrompt>> ReadClassPrompts(
    const ByteSource& file, absl::string_view label);
absl::StatusOr<std::vector<GenerationItem>> ReadGenerationItems(
    const ByteSource& file, absl::string_view label);

// A MALFORMED_FILE error about an item.
absl::Status DamagedItem(const ItemHead& item, absl::string_view message);
// An UNSUPPORTED error: an item that is sound but not for the model.
absl::Status UnfitItem(const ItemHead& item, absl::string_view message);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_ITEMS_H_
