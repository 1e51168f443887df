#ifndef CAIRN_CORE_BASE_JSON_VALUE_H_
#define CAIRN_CORE_BASE_JSON_VALUE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// A parsed JSON text whose objects keep the order of their keys. For files
// that others send: Parse() refuses what lenient parsers let through.
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;

  static constexpr int kDepthMax = 32;
  static constexpr int kValuesMax = 300'000;

  JsonValue() = default;
  explicit JsonValue(bool value) : type_(Type::kBool), bool_(value) {}
  explicit JsonValue(int64_t value) : type_(Type::kInt), int_(value) {}
  explicit JsonValue(double value) : type_(Type::kDouble), double_(value) {}
  explicit JsonValue(std::string value)
      : type_(Type::kString), string_(std::move(value)) {}
  explicit JsonValue(Array value)
      : type_(Type::kArray), array_(std::move(value)) {}
  explicit JsonValue(Object value)
      : type_(Type::kObject), object_(std::move(value)) {}

  // INVALID_ARGUMENT with reason MALFORMED_FILE when the text is not one JSON
  // document, holds a NUL byte or a key twice in one object, or LIMIT_EXCEEDED
  // past the two limits above. The message begins with `label`.
  static absl::StatusOr<JsonValue> Parse(absl::string_view text,
                                         absl::string_view label);

  bool is_null() const { return type_ == Type::kNull; }
  // Null when the value is of another type.
  const bool* as_bool() const {
    return type_ == Type::kBool ? &bool_ : nullptr;
  }
  const std::string* as_string() const {
    return type_ == Type::kString ? &string_ : nullptr;
  }
  const Array* as_array() const {
    return type_ == Type::kArray ? &array_ : nullptr;
  }
  const Object* as_object() const {
    return type_ == Type::kObject ? &object_ : nullptr;
  }
  // Integers that fit, written as integers.
  const int64_t* as_int() const {
    return type_ == Type::kInt ? &int_ : nullptr;
  }
  // True for any number; AsDouble() is then its value.
  bool is_number() const {
    return type_ == Type::kInt || type_ == Type::kDouble;
  }
  double AsDouble() const {
    return type_ == Type::kInt ? static_cast<double>(int_) : double_;
  }

  // The value of a key of an object, or null.
  const JsonValue* Find(absl::string_view key) const;

  // "a string", "an object": for messages.
  absl::string_view type_text() const;

  // Mutable access for the parser.
  Array* mutable_array() { return type_ == Type::kArray ? &array_ : nullptr; }
  Object* mutable_object() {
    return type_ == Type::kObject ? &object_ : nullptr;
  }

 private:
  enum class Type { kNull, kBool, kInt, kDouble, kString, kArray, kObject };

  // One field a type rather than a variant: gcc 12 takes a moved-from variant
  // for uninitialised memory and warns.
  Type type_ = Type::kNull;
  bool bool_ = false;
  int64_t int_ = 0;
  double double_ = 0.0;
  std::string string_;
  Array array_;
  Object object_;
};

// Whether the brackets of a JSON text nest deeper than kDepthMax, as far as it
// is one: libraries copy and write what they have parsed by recursion, so that
// they must not be given such a text.
bool IsDeepJson(absl::string_view text);

// `text` as a JSON string with its quotes. Escapes what JSON demands and
// nothing else, so that equal texts give equal bytes.
std::string JsonQuote(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_JSON_VALUE_H_
