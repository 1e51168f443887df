#include "core/base/json_value.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

absl::Status Refuse(absl::string_view reason, absl::string_view label,
                    absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat(label, ": ", what),
                       {{"file", std::string(label)}});
}

// Builds a JsonValue from parser events; returns false to stop at the first
// fault, which is then in status().
class TreeBuilder {
 public:
  explicit TreeBuilder(absl::string_view label) : label_(label) {}

  bool null() { return Place(JsonValue()); }
  bool boolean(bool value) { return Place(JsonValue(value)); }
  bool number_integer(int64_t value) { return Place(JsonValue(value)); }
  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Place(JsonValue(static_cast<double>(value)));
    }
    return Place(JsonValue(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string&) {
    return Place(JsonValue(value));
  }
  bool string(std::string& value) { return Place(JsonValue(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) { return false; }
  bool start_object(size_t) { return Open(JsonValue(JsonValue::Object())); }
  bool start_array(size_t) { return Open(JsonValue(JsonValue::Array())); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }

  bool key(std::string& name) {
    if (!keys_.back().insert(name).second) {
      status_ = Refuse("MALFORMED_FILE", label_,
                       absl::StrCat("key ", JsonQuote(name.substr(0, 200)),
                                    " stands twice in one object"));
      return false;
    }
    open_.back().mutable_object()->emplace_back(std::move(name), JsonValue());
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) {
    status_ = Refuse("MALFORMED_FILE", label_,
                     absl::StrCat("not JSON: wrong at byte ", position));
    return false;
  }

  const absl::Status& status() const { return status_; }
  JsonValue TakeRoot() { return std::move(root_); }

 private:
  bool Open(JsonValue container) {
    if (open_.size() == JsonValue::kDepthMax) {
      status_ = Refuse("LIMIT_EXCEEDED", label_,
                       absl::StrCat("JSON nested deeper than ",
                                    JsonValue::kDepthMax, " levels"));
      return false;
    }
    open_.push_back(std::move(container));
    keys_.emplace_back();
    return true;
  }

  bool Close() {
    JsonValue done = std::move(open_.back());
    open_.pop_back();
    keys_.pop_back();
    return Place(std::move(done));
  }

  bool Place(JsonValue value) {
    if (++values_ > JsonValue::kValuesMax) {
      status_ = Refuse(
          "LIMIT_EXCEEDED", label_,
          absl::StrCat("more than ", JsonValue::kValuesMax, " JSON values"));
      return false;
    }
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (auto* array = open_.back().mutable_array()) {
      array->push_back(std::move(value));
    } else {
      open_.back().mutable_object()->back().second = std::move(value);
    }
    return true;
  }

  const absl::string_view label_;
  absl::Status status_;
  JsonValue root_;
  int values_ = 0;
  // Containers that are not closed yet, and the keys seen in each.
  std::vector<JsonValue> open_;
  std::vector<absl::flat_hash_set<std::string>> keys_;
};

}  // namespace

absl::StatusOr<JsonValue> JsonValue::Parse(absl::string_view text,
                                           absl::string_view label) {
  // The parser takes a NUL byte for the end of its input.
  if (size_t at = text.find('\0'); at != absl::string_view::npos) {
    return Refuse("MALFORMED_FILE", label,
                  absl::StrCat("not JSON: NUL at byte ", at));
  }
  TreeBuilder builder(label);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    if (!builder.status().ok()) return builder.status();
    return Refuse("MALFORMED_FILE", label, "not JSON");
  }
  return builder.TakeRoot();
}

const JsonValue* JsonValue::Find(absl::string_view key) const {
  const Object* object = as_object();
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : *object) {
    if (name == key) return &value;
  }
  return nullptr;
}

absl::string_view JsonValue::type_text() const {
  static constexpr const char* kNames[] = {
      "null",     "a boolean", "an integer", "a number",
      "a string", "an array",  "an object"};
  return kNames[static_cast<size_t>(type_)];
}

bool IsDeepJson(absl::string_view text) {
  int depth = 0;
  bool is_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_string) {
      if (c == '\\') ++i;
      is_string = c != '"';
    } else if (c == '"') {
      is_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > JsonValue::kDepthMax) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

std::string JsonQuote(absl::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppend(&out, "\\u00", (c & 0x10) != 0 ? "1" : "0",
                          std::string(1, kHex[c & 0xf]));
        } else {
          out += c;
        }
    }
  }
  out += '"';
  return out;
}

}  // namespace cairn
