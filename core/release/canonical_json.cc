#include "core/release/canonical_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/json_value.h"
#include "core/base/log.h"
#include "google/protobuf/timestamp.pb.h"

namespace cairn {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string NumberText(double value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  char buffer[32];
  auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

std::string Quoted(int64_t value) { return absl::StrCat("\"", value, "\""); }

std::string TimeText(const google::protobuf::Timestamp& time) {
  absl::Time moment =
      absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
  return JsonQuote(
      absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", moment, absl::UTCTimeZone()));
}

class Printer {
 public:
  explicit Printer(std::string& out) : out_(out) {}

  void Print(const Message& message) {
    if (message.GetDescriptor()->full_name() == "google.protobuf.Timestamp") {
      out_ +=
          TimeText(static_cast<const google::protobuf::Timestamp&>(message));
      return;
    }
    Begin('{');
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor& field = *message.GetDescriptor()->field(i);
      const Reflection& reflection = *message.GetReflection();
      const bool is_set = field.is_repeated()
                              ? reflection.FieldSize(message, &field) > 0
                              : reflection.HasField(message, &field);
      if (!is_set) continue;
      NextItem();
      absl::StrAppend(&out_, JsonQuote(field.json_name()), ": ");
      PrintField(message, field);
    }
    End('}');
  }

 private:
  void PrintField(const Message& message, const FieldDescriptor& field) {
    if (field.is_map()) {
      PrintMap(message, field);
    } else if (field.is_repeated()) {
      const int size = message.GetReflection()->FieldSize(message, &field);
      Begin('[');
      for (int i = 0; i < size; ++i) {
        NextItem();
        PrintValue(message, field, i);
      }
      End(']');
    } else {
      PrintValue(message, field, -1);
    }
  }

  // Maps of strings, which are the only ones the contract has in documents.
  void PrintMap(const Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    std::vector<std::pair<std::string, std::string>> entries;
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      const auto* type = entry.GetDescriptor();
      CAIRN_CHECK(
          type->map_key()->cpp_type() == FieldDescriptor::CPPTYPE_STRING &&
          type->map_value()->cpp_type() == FieldDescriptor::CPPTYPE_STRING);
      entries.emplace_back(
          entry.GetReflection()->GetString(entry, type->map_key()),
          entry.GetReflection()->GetString(entry, type->map_value()));
    }
    std::sort(entries.begin(), entries.end());
    Begin('{');
    for (const auto& [key, value] : entries) {
      NextItem();
      absl::StrAppend(&out_, JsonQuote(key), ": ", JsonQuote(value));
    }
    End('}');
  }

  // `index`: -1 for a field that is not repeated.
  void PrintValue(const Message& message, const FieldDescriptor& field,
                  int index) {
    const Reflection& r = *message.GetReflection();
    const bool one = index < 0;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Print(one ? r.GetMessage(message, &field)
                         : r.GetRepeatedMessage(message, &field, index));
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text = one ? r.GetString(message, &field)
                               : r.GetRepeatedString(message, &field, index);
        if (field.type() == FieldDescriptor::TYPE_BYTES) {
          text = absl::Base64Escape(text);
        }
        out_ += JsonQuote(text);
        return;
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const EnumValueDescriptor* value =
            one ? r.GetEnum(message, &field)
                : r.GetRepeatedEnum(message, &field, index);
        out_ += JsonQuote(value->name());
        return;
      }
      case FieldDescriptor::CPPTYPE_DOUBLE:
        out_ += NumberText(one ? r.GetDouble(message, &field)
                               : r.GetRepeatedDouble(message, &field, index));
        return;
      case FieldDescriptor::CPPTYPE_BOOL: {
        const bool value = one ? r.GetBool(message, &field)
                               : r.GetRepeatedBool(message, &field, index);
        out_ += value ? "true" : "false";
        return;
      }
      case FieldDescriptor::CPPTYPE_INT32:
        absl::StrAppend(&out_,
                        one ? r.GetInt32(message, &field)
                            : r.GetRepeatedInt32(message, &field, index));
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        out_ += Quoted(one ? r.GetInt64(message, &field)
                           : r.GetRepeatedInt64(message, &field, index));
        return;
      default:
        CAIRN_CHECK(false && "a field type that no document has");
    }
  }

  void Begin(char bracket) {
    out_ += bracket;
    indent_ += 2;
    is_first_ = true;
  }
  void NextItem() {
    if (!is_first_) out_ += ',';
    is_first_ = false;
    NewLine();
  }
  void End(char bracket) {
    indent_ -= 2;
    if (!is_first_) NewLine();
    is_first_ = false;
    out_ += bracket;
  }
  void NewLine() {
    out_ += '\n';
    out_.append(indent_, ' ');
  }

  std::string& out_;
  size_t indent_ = 0;
  bool is_first_ = true;
};

}  // namespace

std::string CanonicalJson(const Message& message) {
  std::string out;
  Printer(out).Print(message);
  out += '\n';
  return out;
}

}  // namespace cairn
