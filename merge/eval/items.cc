#include "merge/eval/items.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/suite.h"
#include "merge/eval/text_encoder.h"

namespace cairn {
namespace {

constexpr int64_t kFileBytesMax = 256 << 20;

// One line of a file of items: an object whose fields are read by name.
class ItemLine {
 public:
  static absl::StatusOr<ItemLine> Parse(absl::string_view line,
                                        absl::string_view where) {
    const absl::StatusOr<JsonValue> json = JsonValue::Parse(line, where);
    if (!json.ok()) {
      return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                           json.status().message());
    }
    if (json->as_object() == nullptr) {
      return DamagedSuite(where, "a line should be one JSON object");
    }
    ItemLine item(*json);
    item.head_.where = std::string(where);
    CAIRN_RETURN_IF_ERROR(item.ReadHead());
    return item;
  }

  const ItemHead& head() const { return head_; }
  bool Has(absl::string_view field) const {
    return object_.Find(field) != nullptr;
  }

  // Refuses fields other than these, `id` and `group`.
  absl::Status AllowOnly(std::initializer_list<absl::string_view> fields) {
    std::set<std::string> known = {"id", "group"};
    for (absl::string_view field : fields) known.emplace(field);
    for (const auto& [field, value] : *object_.as_object()) {
      if (!known.contains(field)) {
        return DamagedItem(head_, absl::StrCat("unknown field `", field, "`"));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Text(absl::string_view field) const {
    const JsonValue* value = object_.Find(field);
    if (value == nullptr || value->as_string() == nullptr) {
      return Wrong(field, "a string");
    }
    return *value->as_string();
  }

  absl::StatusOr<int64_t> Integer(absl::string_view field) const {
    const JsonValue* value = object_.Find(field);
    if (value == nullptr) return Wrong(field, "an integer, and is missing");
    if (value->as_int() == nullptr) return Wrong(field, "an integer");
    return *value->as_int();
  }

  absl::StatusOr<double> Number(absl::string_view field) const {
    const JsonValue* value = object_.Find(field);
    if (value == nullptr) return Wrong(field, "a number, and is missing");
    if (!value->is_number() || !std::isfinite(value->AsDouble())) {
      return Wrong(field, "a finite number");
    }
    return value->AsDouble();
  }

  absl::StatusOr<std::vector<int64_t>> Ids(absl::string_view field) const {
    const JsonValue* value = object_.Find(field);
    if (value == nullptr) {
      return Wrong(field, "a list of token ids, and is missing");
    }
    return IdsOf(*value, field);
  }

  absl::StatusOr<std::vector<std::vector<int64_t>>> IdLists(
      absl::string_view field) const {
    constexpr char kRight[] = "a list of lists of token ids";
    const JsonValue* value = object_.Find(field);
    if (value == nullptr) {
      return Wrong(field, absl::StrCat(kRight, ", and is missing"));
    }
    if (value->as_array() == nullptr) return Wrong(field, kRight);
    std::vector<std::vector<int64_t>> lists;
    for (const JsonValue& entry : *value->as_array()) {
      CAIRN_ASSIGN_OR_RETURN(lists.emplace_back(), IdsOf(entry, field));
    }
    return lists;
  }

  absl::StatusOr<std::vector<std::string>> Texts(
      absl::string_view field) const {
    constexpr char kRight[] = "a list of strings";
    const JsonValue* value = object_.Find(field);
    if (value == nullptr || value->as_array() == nullptr) {
      return Wrong(field, kRight);
    }
    std::vector<std::string> texts;
    for (const JsonValue& entry : *value->as_array()) {
      if (entry.as_string() == nullptr) return Wrong(field, kRight);
      texts.push_back(*entry.as_string());
    }
    return texts;
  }

  // A string, or a list of at least one.
  absl::StatusOr<std::vector<std::string>> TextOrTexts(
      absl::string_view field) const {
    if (object_.Find(field)->as_array() == nullptr) {
      CAIRN_ASSIGN_OR_RETURN(std::string text, Text(field));
      return std::vector<std::string>{std::move(text)};
    }
    CAIRN_ASSIGN_OR_RETURN(auto texts, Texts(field));
    if (texts.empty()) return Wrong(field, "a string or a list of some");
    return texts;
  }

  absl::Status Wrong(absl::string_view field, absl::string_view right) const {
    return DamagedItem(head_, absl::StrCat("`", field, "` should be ", right));
  }

 private:
  explicit ItemLine(JsonValue object) : object_(std::move(object)) {}

  absl::Status ReadHead() {
    CAIRN_ASSIGN_OR_RETURN(head_.id, Text("id"));
    if (head_.id.empty()) return Wrong("id", "a string that is not empty");
    absl::StrAppend(&head_.where, ": item `", head_.id, "`");
    if (Has("group")) {
      CAIRN_ASSIGN_OR_RETURN(head_.group, Text("group"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<int64_t>> IdsOf(const JsonValue& value,
                                             absl::string_view field) const {
    if (value.as_array() == nullptr) {
      return Wrong(field, "a list of token ids");
    }
    std::vector<int64_t> ids;
    ids.reserve(value.as_array()->size());
    for (const JsonValue& entry : *value.as_array()) {
      if (entry.as_int() == nullptr) {
        return Wrong(field, absl::StrCat("a list of token ids, not ",
                                         entry.type_text()));
      }
      if (*entry.as_int() < 0) {
        return DamagedItem(head_,
                           absl::StrCat("`", field, "` holds ", *entry.as_int(),
                                        "; ids are not negative"));
      }
      ids.push_back(*entry.as_int());
    }
    return ids;
  }

  JsonValue object_;
  ItemHead head_;
};

absl::StatusOr<PerplexityItem> ReadPerplexityItem(ItemLine& line) {
  CAIRN_RETURN_IF_ERROR(line.AllowOnly({"input_ids", "text"}));
  PerplexityItem item{line.head(), {}, std::nullopt};
  if (line.Has("text")) {
    CAIRN_ASSIGN_OR_RETURN(item.text, line.Text("text"));
    if (item.text->empty()) return line.Wrong("text", "text that is scored");
    if (!line.Has("input_ids")) return item;
  }
  CAIRN_ASSIGN_OR_RETURN(item.ids, line.Ids("input_ids"));
  if (item.ids.size() < 2) {
    return line.Wrong("input_ids",
                      "at least 2 tokens: one that is given, one to score");
  }
  return item;
}

// Context and choices: as ids, or, with no ids at all, as texts.
absl::Status ReadChoices(const ItemLine& line, MultipleChoiceItem& item) {
  if (line.Has("choices")) {
    CAIRN_ASSIGN_OR_RETURN(item.texts, line.Texts("choices"));
  }
  if (line.Has("context")) {
    if (line.Has("context_ids") || line.Has("choices_ids")) {
      return DamagedItem(item,
                         "`context` excludes `context_ids` and "
                         "`choices_ids`");
    }
    CAIRN_ASSIGN_OR_RETURN(item.context_text, line.Text("context"));
    if (item.texts.empty()) return line.Wrong("choices", "not empty");
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(item.context, line.Ids("context_ids"));
  if (item.context.empty()) return line.Wrong("context_ids", "not empty");
  CAIRN_ASSIGN_OR_RETURN(item.choices, line.IdLists("choices_ids"));
  if (item.choices.empty()) return line.Wrong("choices_ids", "not empty");
  for (const std::vector<int64_t>& choice : item.choices) {
    if (choice.empty()) {
      return line.Wrong("choices_ids", "lists of at least one token each");
    }
  }
  if (line.Has("choices") && item.texts.size() != item.choices.size()) {
    return line.Wrong("choices", "as many as `choices_ids`");
  }
  return absl::OkStatus();
}

absl::StatusOr<MultipleChoiceItem> ReadMultipleChoiceItem(ItemLine& line) {
  CAIRN_RETURN_IF_ERROR(line.AllowOnly(
      {"context_ids", "choices_ids", "context", "choices", "label"}));
  MultipleChoiceItem item;
  static_cast<ItemHead&>(item) = line.head();
  CAIRN_RETURN_IF_ERROR(ReadChoices(line, item));
  CAIRN_ASSIGN_OR_RETURN(item.label, line.Integer("label"));
  const int64_t count = static_cast<int64_t>(
      item.context_text ? item.texts.size() : item.choices.size());
  if (item.label < 0 || item.label >= count) {
    return line.Wrong(
        "label", absl::StrCat("from 0 to ", count - 1, ", not ", item.label));
  }
  return item;
}

absl::Status ReadPixelReference(const ItemLine& line,
                                ClassificationItem& item) {
  CAIRN_ASSIGN_OR_RETURN(const std::string reference,
                         line.Text("pixel_values"));
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(reference, absl::MaxSplits('#', 1));
  item.pixel_file = parts.first;
  item.pixel_tensor = parts.second;
  if (item.pixel_tensor.empty() || !IsInsideSuite(item.pixel_file)) {
    return line.Wrong("pixel_values",
                      absl::StrCat("FILE.safetensors#TENSOR with the file "
                                   "beside suite.yaml, not `",
                                   reference, "`"));
  }
  return absl::OkStatus();
}

// Values of a field that has one for each token.
absl::StatusOr<std::vector<int64_t>> ReadPerToken(const ItemLine& line,
                                                  absl::string_view field,
                                                  size_t tokens) {
  std::vector<int64_t> values;
  if (!line.Has(field)) return values;
  CAIRN_ASSIGN_OR_RETURN(values, line.Ids(field));
  if (values.size() == tokens) return values;
  return line.Wrong(field, absl::StrCat("as long as `input_ids`, ", tokens,
                                        " and not ", values.size()));
}

// A text or an image; `answer` is the field that says what it is.
absl::StatusOr<ClassificationItem> ReadClassified(ItemLine& line,
                                                  absl::string_view answer) {
  CAIRN_RETURN_IF_ERROR(
      line.AllowOnly({"input_ids", "attention_mask", "token_type_ids",
                      "pixel_values", "text", answer}));
  ClassificationItem item;
  static_cast<ItemHead&>(item) = line.head();
  if (line.Has("text")) {
    return UnfitItem(item, absl::StrCat("`text` of classifiers is not "
                                        "tokenised here; ",
                                        kHowToTokenise));
  }
  if (line.Has("pixel_values")) {
    for (const char* field :
         {"input_ids", "attention_mask", "token_type_ids"}) {
      if (line.Has(field)) {
        return line.Wrong(field, "absent beside `pixel_values`");
      }
    }
    CAIRN_RETURN_IF_ERROR(ReadPixelReference(line, item));
  } else {
    CAIRN_ASSIGN_OR_RETURN(item.ids, line.Ids("input_ids"));
    if (item.ids.empty()) return line.Wrong("input_ids", "not empty");
    CAIRN_ASSIGN_OR_RETURN(
        item.mask, ReadPerToken(line, "attention_mask", item.ids.size()));
    CAIRN_ASSIGN_OR_RETURN(
        item.types, ReadPerToken(line, "token_type_ids", item.ids.size()));
    const auto& mask = item.mask;
    if (std::any_of(mask.begin(), mask.end(),
                    [](int64_t value) { return value > 1; }) ||
        (!mask.empty() && std::count(mask.begin(), mask.end(), 1) == 0)) {
      return line.Wrong("attention_mask", "of 0 and 1, with a 1");
    }
  }
  return item;
}

absl::StatusOr<ClassificationItem> ReadRegressionItem(ItemLine& line) {
  CAIRN_ASSIGN_OR_RETURN(ClassificationItem item,
                         ReadClassified(line, "target"));
  CAIRN_ASSIGN_OR_RETURN(item.target, line.Number("target"));
  return item;
}

absl::StatusOr<ClassificationItem> ReadClassificationItem(ItemLine& line) {
  CAIRN_ASSIGN_OR_RETURN(ClassificationItem item,
                         ReadClassified(line, "label"));
  CAIRN_ASSIGN_OR_RETURN(item.label, line.Integer("label"));
  if (item.label < 0) {
    return line.Wrong("label", absl::StrCat("from 0 on, not ", item.label));
  }
  return item;
}

absl::StatusOr<ClassPrompt> ReadClassPrompt(ItemLine& line) {
  CAIRN_RETURN_IF_ERROR(line.AllowOnly({"input_ids"}));
  ClassPrompt prompt;
  static_cast<ItemHead&>(prompt) = line.head();
  CAIRN_ASSIGN_OR_RETURN(prompt.ids, line.Ids("input_ids"));
  if (prompt.ids.empty()) return line.Wrong("input_ids", "not empty");
  return prompt;
}

absl::StatusOr<GenerationItem> ReadGenerationItem(ItemLine& line) {
  CAIRN_RETURN_IF_ERROR(line.AllowOnly(
      {"context_ids", "target_ids", "context", "target", "max_new_tokens"}));
  GenerationItem item;
  static_cast<ItemHead&>(item) = line.head();
  if (line.Has("context")) {
    if (line.Has("context_ids")) {
      return DamagedItem(item,
                         "`context` and `context_ids` exclude each other");
    }
    CAIRN_ASSIGN_OR_RETURN(item.context_text, line.Text("context"));
  } else {
    CAIRN_ASSIGN_OR_RETURN(item.context, line.Ids("context_ids"));
    if (item.context.empty()) return line.Wrong("context_ids", "not empty");
  }
  if (line.Has("target")) {
    if (line.Has("target_ids")) {
      return DamagedItem(item, "`target` and `target_ids` exclude each other");
    }
    CAIRN_ASSIGN_OR_RETURN(item.texts, line.TextOrTexts("target"));
  } else {
    CAIRN_ASSIGN_OR_RETURN(item.target, line.Ids("target_ids"));
  }
  if (line.Has("max_new_tokens")) {
    CAIRN_ASSIGN_OR_RETURN(item.new_tokens_max, line.Integer("max_new_tokens"));
    if (*item.new_tokens_max < 1) {
      return line.Wrong("max_new_tokens", "at least 1");
    }
  }
  return item;
}

template <typename Item>
absl::StatusOr<std::vector<Item>> ReadItems(
    const ByteSource& file, absl::string_view label,
    absl::StatusOr<Item> (*read)(ItemLine&)) {
  const absl::StatusOr<std::string> text = ReadAll(file, kFileBytesMax);
  if (!text.ok()) return DamagedSuite(label, text.status().message());
  absl::string_view rest = *text;
  absl::ConsumeSuffix(&rest, "\n");
  if (rest.empty()) return DamagedSuite(label, "no items");
  std::vector<Item> items;
  std::set<std::string> ids;
  for (absl::string_view text_line : absl::StrSplit(rest, '\n')) {
    const std::string where = absl::StrCat(label, ":", items.size() + 1);
    CAIRN_ASSIGN_OR_RETURN(ItemLine line, ItemLine::Parse(text_line, where));
    CAIRN_ASSIGN_OR_RETURN(Item item, read(line));
    if (!ids.insert(item.id).second) {
      return DamagedItem(item, "the id stands in an earlier line as well");
    }
    items.push_back(std::move(item));
  }
  return items;
}

absl::Status AboutItem(absl::StatusCode code, absl::string_view reason,
                       const ItemHead& item, absl::string_view message) {
  return ReasonedError(code, reason, absl::StrCat(item.where, ": ", message),
                       {{"item", item.id}});
}

}  // namespace

absl::StatusOr<std::vector<PerplexityItem>> ReadPerplexityItems(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<PerplexityItem>(file, label, ReadPerplexityItem);
}

absl::StatusOr<std::vector<MultipleChoiceItem>> ReadMultipleChoiceItems(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<MultipleChoiceItem>(file, label, ReadMultipleChoiceItem);
}

absl::StatusOr<std::vector<ClassificationItem>> ReadClassificationItems(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<ClassificationItem>(file, label, ReadClassificationItem);
}

absl::StatusOr<std::vector<ClassificationItem>> ReadRegressionItems(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<ClassificationItem>(file, label, ReadRegressionItem);
}

absl::StatusOr<std::vector<ClassPrompt>> ReadClassPrompts(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<ClassPrompt>(file, label, ReadClassPrompt);
}

absl::StatusOr<std::vector<GenerationItem>> ReadGenerationItems(
    const ByteSource& file, absl::string_view label) {
  return ReadItems<GenerationItem>(file, label, ReadGenerationItem);
}

absl::Status DamagedItem(const ItemHead& item, absl::string_view message) {
  return AboutItem(absl::StatusCode::kDataLoss, "MALFORMED_FILE", item,
                   message);
}

absl::Status UnfitItem(const ItemHead& item, absl::string_view message) {
  return AboutItem(absl::StatusCode::kUnimplemented, "UNSUPPORTED", item,
                   message);
}

}  // namespace cairn
