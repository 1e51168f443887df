#include "server/suite/suite_item.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

constexpr int kDepthMax = 32;

enum class Type {
  kText,
  kTexts,    // at least two
  kIds,      // token ids, from 0
  kIdLists,  // at least two lists of ids, none empty
  kMask,     // 0 and 1
  kLabel,    // a whole number from 0
  kNumber,
  kTextOrTexts,  // a text, or a list of at least one
  kCount,        // a whole number from 1
};

struct Field {
  absl::string_view name;
  Type type;
};

struct Kind {
  absl::string_view name;
  std::vector<absl::string_view> metrics;
  std::vector<Field> fields;
};

const std::vector<Kind>& Kinds() {
  static const auto* const kKinds = new std::vector<Kind>{
      {"perplexity",
       {"perplexity", "bits_per_byte", "byte_perplexity", "word_perplexity"},
       {{"input_ids", Type::kIds}, {"text", Type::kText}}},
      {"multiple_choice",
       {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"},
       {{"context_ids", Type::kIds},
        {"choices_ids", Type::kIdLists},
        {"context", Type::kText},
        {"choices", Type::kTexts},
        {"label", Type::kLabel}}},
      {"classification",
       {"acc"},
       {{"input_ids", Type::kIds},
        {"attention_mask", Type::kMask},
        {"token_type_ids", Type::kIds},
        {"pixel_values", Type::kText},
        {"label", Type::kLabel}}},
      {"regression",
       {"r2"},
       {{"input_ids", Type::kIds},
        {"attention_mask", Type::kMask},
        {"token_type_ids", Type::kIds},
        {"pixel_values", Type::kText},
        {"target", Type::kNumber}}},
      {"generation",
       {"exact_match"},
       {{"context_ids", Type::kIds},
        {"context", Type::kText},
        {"target_ids", Type::kIds},
        {"target", Type::kTextOrTexts},
        {"max_new_tokens", Type::kCount}}},
  };
  return *kKinds;
}

const Kind* FindKind(absl::string_view name) {
  for (const Kind& kind : Kinds()) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

absl::Status Wrong(absl::string_view place, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(place, ": ", what),
                       {{"item", std::string(place)}});
}

bool IsWhole(const Json& value, int64_t smallest) {
  return value.is_number_integer() &&
         (value.is_number_unsigned() || value.get<int64_t>() >= smallest) &&
         (smallest <= 0 || value.get<int64_t>() >= smallest);
}

bool AreIds(const Json& value, size_t at_least) {
  return value.is_array() && value.size() >= at_least &&
         std::all_of(value.begin(), value.end(),
                     [](const Json& id) { return IsWhole(id, 0); });
}

// What the type asks for; empty when the value has it.
absl::string_view Missing(Type type, const Json& value) {
  bool fits = false;
  absl::string_view wanted;
  switch (type) {
    case Type::kText:
      fits = value.is_string();
      wanted = "a text";
      break;
    case Type::kTexts:
      fits = value.is_array() && value.size() >= 2 &&
             std::all_of(value.begin(), value.end(),
                         [](const Json& v) { return v.is_string(); });
      wanted = "at least two texts";
      break;
    case Type::kIds:
      fits = AreIds(value, 0);
      wanted = "a list of token ids, whole numbers from 0";
      break;
    case Type::kIdLists:
      fits = value.is_array() && value.size() >= 2 &&
             std::all_of(value.begin(), value.end(),
                         [](const Json& v) { return AreIds(v, 1); });
      wanted = "at least two lists of token ids, none empty";
      break;
    case Type::kMask:
      fits = AreIds(value, 0) &&
             std::all_of(value.begin(), value.end(),
                         [](const Json& v) { return v == 0 || v == 1; });
      wanted = "a list of 0 and 1";
      break;
    case Type::kLabel:
      fits = IsWhole(value, 0);
      wanted = "a whole number from 0";
      break;
    case Type::kNumber:
      fits = value.is_number() && std::isfinite(value.get<double>());
      wanted = "a finite number";
      break;
    case Type::kTextOrTexts:
      fits = value.is_string() ||
             (value.is_array() && !value.empty() &&
              std::all_of(value.begin(), value.end(),
                          [](const Json& v) { return v.is_string(); }));
      wanted = "a text, or a list of some";
      break;
    case Type::kCount:
      fits = IsWhole(value, 1);
      wanted = "a whole number from 1";
      break;
  }
  return fits ? absl::string_view() : wanted;
}

absl::StatusOr<Json> ParseLine(absl::string_view line,
                               absl::string_view place) {
  bool is_too_deep = false;
  auto watch = [&](int depth, Json::parse_event_t, Json&) {
    is_too_deep |= depth > kDepthMax;
    return !is_too_deep;
  };
  Json item =
      Json::parse(line.begin(), line.end(), watch, /*allow_exceptions=*/false);
  if (is_too_deep) {
    return Wrong(place, absl::StrCat("nests deeper than ", kDepthMax));
  }
  if (!item.is_object()) return Wrong(place, "is not a JSON object");
  return item;
}

absl::Status CheckFields(const Kind& kind, const Json& item,
                         absl::string_view place) {
  for (const auto& [name, value] : item.items()) {
    if (name == "id" || name == "group") {
      if (!value.is_string() || (name == "id" && value.empty())) {
        return Wrong(place, absl::StrCat(name, " must be a text"));
      }
      continue;
    }
    auto field =
        std::find_if(kind.fields.begin(), kind.fields.end(),
                     [&name = name](const Field& f) { return f.name == name; });
    if (field == kind.fields.end()) {
      return Wrong(place, absl::StrCat("'", name, "' is not a field of a ",
                                       kind.name, " item"));
    }
    absl::string_view missing = Missing(field->type, value);
    if (!missing.empty()) {
      return Wrong(place, absl::StrCat(name, " must be ", missing));
    }
  }
  return absl::OkStatus();
}

absl::Status Need(const Json& item, std::initializer_list<const char*> names,
                  absl::string_view place) {
  for (const char* name : names) {
    if (!item.contains(name)) {
      return Wrong(place, absl::StrCat("'", name, "' is missing"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPerplexity(const Json& item, absl::string_view place) {
  if (item.contains("input_ids")) {
    if (item["input_ids"].size() >= 2) return absl::OkStatus();
    return Wrong(place, "input_ids must have at least 2 ids");
  }
  if (item.contains("text")) return absl::OkStatus();
  return Wrong(place, "has neither input_ids nor text");
}

absl::Status CheckMultipleChoice(const Json& item, absl::string_view place) {
  CAIRN_RETURN_IF_ERROR(Need(item, {"label"}, place));
  bool has_ids = item.contains("choices_ids");
  if (has_ids) {
    if (item.contains("context") == item.contains("context_ids")) {
      return Wrong(place, "needs either context_ids or context");
    }
  } else {
    CAIRN_RETURN_IF_ERROR(Need(item, {"context", "choices"}, place));
  }
  size_t choices = item[has_ids ? "choices_ids" : "choices"].size();
  if (item.contains("choices") && item["choices"].size() != choices) {
    return Wrong(place, "choices and choices_ids have different lengths");
  }
  if (item["label"].get<size_t>() >= choices) {
    return Wrong(place, absl::StrCat("label ", item["label"].get<size_t>(),
                                     " is past the ", choices, " choices"));
  }
  return absl::OkStatus();
}

// A text or an image, with the field `answer`.
absl::Status CheckClassified(const Json& item, const char* answer,
                             absl::string_view place) {
  CAIRN_RETURN_IF_ERROR(Need(item, {answer}, place));
  if (item.contains("pixel_values") == item.contains("input_ids")) {
    return Wrong(place, "needs either input_ids or pixel_values");
  }
  for (const char* beside : {"attention_mask", "token_type_ids"}) {
    if (item.contains(beside) &&
        (!item.contains("input_ids") ||
         item[beside].size() != item["input_ids"].size())) {
      return Wrong(place, absl::StrCat(beside, " is not as long as input_ids"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsSuiteKind(absl::string_view kind) { return FindKind(kind) != nullptr; }

bool IsMetricOf(absl::string_view kind, absl::string_view metric) {
  const Kind* found = FindKind(kind);
  return found != nullptr &&
         std::find(found->metrics.begin(), found->metrics.end(), metric) !=
             found->metrics.end();
}

absl::StatusOr<SuiteItem> CheckSuiteItem(absl::string_view kind,
                                         bool compares_texts,
                                         absl::string_view line,
                                         absl::string_view place) {
  const Kind* found = FindKind(kind);
  if (found == nullptr) {
    return Wrong(place, absl::StrCat("'", kind, "' is not a kind of suite"));
  }
  CAIRN_ASSIGN_OR_RETURN(Json item, ParseLine(line, place));
  CAIRN_RETURN_IF_ERROR(CheckFields(*found, item, place));
  CAIRN_RETURN_IF_ERROR(Need(item, {"id"}, place));
  if (kind == "perplexity") {
    CAIRN_RETURN_IF_ERROR(CheckPerplexity(item, place));
  } else if (kind == "multiple_choice") {
    CAIRN_RETURN_IF_ERROR(CheckMultipleChoice(item, place));
  } else if (kind == "classification") {
    CAIRN_RETURN_IF_ERROR(CheckClassified(item, "label", place));
  } else if (kind == "regression") {
    CAIRN_RETURN_IF_ERROR(CheckClassified(item, "target", place));
  } else {
    CAIRN_RETURN_IF_ERROR(Need(item, {"context_ids"}, place));
    CAIRN_RETURN_IF_ERROR(
        Need(item, {compares_texts ? "target" : "target_ids"}, place));
    if (item.contains("target") == item.contains("target_ids")) {
      return Wrong(place, "target and target_ids exclude each other");
    }
  }
  SuiteItem out{.id = item["id"].get<std::string>(), .content = ""};
  item.erase("id");
  item.erase("group");
  out.content = item.dump();  // keys in the order of their names
  return out;
}

}  // namespace cairn
