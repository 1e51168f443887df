#include "merge/model/config_reader.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

// Bounds that no sound model passes; products of two stay far from overflow.
constexpr int64_t kSizeMax = int64_t{1} << 28;
constexpr int64_t kLayersMax = 10'000;

std::string ValueText(const JsonValue& value) {
  if (value.as_int() != nullptr) return absl::StrCat(*value.as_int());
  if (value.is_number()) return absl::StrCat(value.AsDouble());
  if (value.as_string() != nullptr) {
    return JsonQuote(value.as_string()->substr(0, 80));
  }
  return std::string(value.type_text());
}

}  // namespace

absl::Status MalformedConfig(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat("config.json: ", message),
                       {{"file", "config.json"}});
}

absl::Status UnsupportedConfig(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       absl::StrCat("config.json: ", message),
                       {{"file", "config.json"}});
}

absl::StatusOr<ConfigReader> ConfigReader::Parse(
    absl::string_view config_json) {
  absl::StatusOr<JsonValue> json =
      JsonValue::Parse(config_json, "no sound JSON");
  if (!json.ok()) return MalformedConfig(json.status().message());
  if (json->as_object() == nullptr) {
    return MalformedConfig(
        "no JSON object; it should be the configuration that transformers "
        "writes");
  }
  auto root = std::make_shared<const JsonValue>(*std::move(json));
  const JsonValue* object = root.get();
  return ConfigReader(std::move(root), object, "",
                      std::make_shared<absl::Status>());
}

const JsonValue* ConfigReader::Find(const char* key) const {
  const JsonValue* value = object_->Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool ConfigReader::IsNull(const char* key) const {
  const JsonValue* value = object_->Find(key);
  return value != nullptr && value->is_null();
}

std::optional<ConfigReader> ConfigReader::Object(const char* key) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->as_object() == nullptr) {
    Fail(key, "an object");
    return std::nullopt;
  }
  return ConfigReader(root_, value, absl::StrCat(prefix_, key, "."), status_);
}

void ConfigReader::Missing(const char* key) {
  if (!status_->ok()) return;
  *status_ = MalformedConfig(absl::StrCat("`", prefix_, key, "` is missing"));
}

void ConfigReader::Fail(absl::string_view key, absl::string_view right) {
  if (!status_->ok()) return;
  const JsonValue* value = object_->Find(key);
  *status_ = MalformedConfig(
      absl::StrCat("`", prefix_, key, "` ",
                   value == nullptr ? "" : "is " + ValueText(*value) + "; it ",
                   "should be ", right));
}

int64_t ConfigReader::Integer(const char* key, std::optional<int64_t> fall_back,
                              int64_t min, int64_t max) {
  const JsonValue* value = Find(key);
  if (value == nullptr) {
    if (!fall_back.has_value()) Missing(key);
    return fall_back.value_or(min);
  }
  const int64_t* number = value->as_int();
  if (number == nullptr || *number < min || *number > max) {
    Fail(key, absl::StrCat("an integer from ", min, " to ", max));
    return min;
  }
  return *number;
}

int64_t ConfigReader::Size(const char* key, std::optional<int64_t> fall_back) {
  return Integer(key, fall_back, 1, kSizeMax);
}

int64_t ConfigReader::Layers(const char* key,
                             std::optional<int64_t> fall_back) {
  return Integer(key, fall_back, 1, kLayersMax);
}

int64_t ConfigReader::TokenId(const char* key,
                              std::optional<int64_t> fall_back) {
  return Integer(key, fall_back, 0, kSizeMax);
}

double ConfigReader::Positive(const char* key,
                              std::optional<double> fall_back) {
  const JsonValue* value = Find(key);
  if (value == nullptr) {
    if (!fall_back.has_value()) Missing(key);
    return fall_back.value_or(1.0);
  }
  const double number = value->is_number() ? value->AsDouble() : 0;
  if (!(number > 0) || !std::isfinite(number)) {
    Fail(key, "a positive number");
    return 1.0;
  }
  return number;
}

bool ConfigReader::Flag(const char* key, bool fall_back) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return fall_back;
  if (value->as_bool() == nullptr) {
    Fail(key, "true or false");
    return fall_back;
  }
  return *value->as_bool();
}

std::string ConfigReader::Text(const char* key, const std::string& fall_back) {
  const JsonValue* value = Find(key);
  if (value == nullptr) return fall_back;
  if (value->as_string() == nullptr) {
    Fail(key, "a string");
    return fall_back;
  }
  return *value->as_string();
}

std::vector<double> ConfigReader::Numbers(const char* key) {
  const JsonValue* value = Find(key);
  std::vector<double> numbers;
  if (value == nullptr || value->as_array() == nullptr) {
    Fail(key, "a list of numbers");
    return numbers;
  }
  for (const JsonValue& entry : *value->as_array()) {
    if (!entry.is_number()) Fail(key, "a list of numbers");
    numbers.push_back(entry.is_number() ? entry.AsDouble() : 1.0);
  }
  return numbers;
}

std::vector<std::string> ConfigReader::Texts(const char* key) {
  const JsonValue* value = Find(key);
  std::vector<std::string> texts;
  if (value == nullptr || value->as_array() == nullptr) {
    Fail(key, "a list of strings");
    return texts;
  }
  for (const JsonValue& entry : *value->as_array()) {
    if (entry.as_string() == nullptr) {
      Fail(key, "a list of strings");
      return texts;
    }
    texts.push_back(*entry.as_string());
  }
  return texts;
}

std::vector<int64_t> ConfigReader::TokenIds(const char* key) const {
  const JsonValue* value = Find(key);
  std::vector<int64_t> ids;
  if (value == nullptr) return ids;
  const auto add = [&](const JsonValue& entry) {
    const int64_t* id = entry.as_int();
    if (id != nullptr && *id >= 0) ids.push_back(*id);
  };
  if (value->as_array() == nullptr) {
    add(*value);
  } else {
    for (const JsonValue& entry : *value->as_array()) add(entry);
  }
  return ids;
}

absl::StatusOr<std::string> ArchitectureOf(absl::string_view config_json) {
  CAIRN_ASSIGN_OR_RETURN(ConfigReader config, ConfigReader::Parse(config_json));
  const JsonValue* named = config.Find("architectures");
  if (named != nullptr && named->as_array() != nullptr &&
      !named->as_array()->empty() &&
      named->as_array()->front().as_string() != nullptr) {
    return *named->as_array()->front().as_string();
  }
  const std::string type = config.Text("model_type", "");
  CAIRN_RETURN_IF_ERROR(config.status());
  if (type.empty()) {
    return MalformedConfig(
        "neither `architectures` nor `model_type` says what the model is");
  }
  return type == "llama" ? "LlamaForCausalLM" : type;
}

}  // namespace cairn
