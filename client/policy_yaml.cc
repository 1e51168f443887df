#include "client/policy_yaml.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

class PolicyReader {
 public:
  explicit PolicyReader(absl::string_view label) : label_(label) {}

  absl::Status ReadMap(const YAML::Node& node, const std::string& path,
                       Message& message);

 private:
  absl::Status ReadField(const YAML::Node& node, const std::string& path,
                         const FieldDescriptor& field, Message& message);
  absl::Status ReadScalar(const YAML::Node& node, const std::string& path,
                          const FieldDescriptor& field, Message& message);
  absl::Status ReadBatch(const YAML::Node& node, v1::Policy& policy);
  absl::Status Error(const YAML::Node& node, const std::string& path,
                     absl::string_view problem) const {
    return absl::InvalidArgumentError(absl::StrCat(
        label_, ":", node.Mark().line + 1, ": ", path, ": ", problem));
  }

  const std::string label_;
};

std::string KnownKeys(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) {
    names.push_back(type.field(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

absl::Status PolicyReader::ReadMap(const YAML::Node& node,
                                   const std::string& path, Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  if (!node.IsMap()) {
    return Error(node, path.empty() ? "the policy" : path,
                 absl::StrCat("must be a map with keys of ", KnownKeys(type)));
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    const std::string full = path.empty() ? key : absl::StrCat(path, ".", key);
    if (!seen.insert(key).second) {
      return Error(entry.first, full, "given twice");
    }
    const FieldDescriptor* field = type.FindFieldByName(key);
    if (field == nullptr) {
      return Error(entry.first, full,
                   absl::StrCat("unknown key; known are ", KnownKeys(type)));
    }
    CAIRN_RETURN_IF_ERROR(ReadField(entry.second, full, *field, message));
  }
  return absl::OkStatus();
}

absl::Status PolicyReader::ReadField(const YAML::Node& node,
                                     const std::string& path,
                                     const FieldDescriptor& field,
                                     Message& message) {
  if (field.is_repeated()) {
    if (!node.IsSequence()) return Error(node, path, "must be a list");
    for (const auto& item : node) {
      CAIRN_RETURN_IF_ERROR(ReadScalar(item, path, field, message));
    }
    return absl::OkStatus();
  }
  if (field.name() == "batch") {
    return ReadBatch(node, static_cast<v1::Policy&>(message));
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return ReadMap(node, path,
                   *message.GetReflection()->MutableMessage(&message, &field));
  }
  return ReadScalar(node, path, field, message);
}

absl::Status PolicyReader::ReadScalar(const YAML::Node& node,
                                      const std::string& path,
                                      const FieldDescriptor& field,
                                      Message& message) {
  if (!node.IsScalar()) return Error(node, path, "must be a single value");
  const google::protobuf::Reflection& set = *message.GetReflection();
  const bool add = field.is_repeated();
  const std::string& text = node.Scalar();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      if (!absl::SimpleAtod(text, &value)) {
        return Error(node, path, "must be a number");
      }
      add ? set.AddDouble(&message, &field, value)
          : set.SetDouble(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int value = 0;
      if (!absl::SimpleAtoi(text, &value)) {
        return Error(node, path, "must be a whole number");
      }
      set.SetInt32(&message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") {
        return Error(node, path, "must be true or false");
      }
      set.SetBool(&message, &field, text == "true");
      return absl::OkStatus();
    default:
      add ? set.AddString(&message, &field, text)
          : set.SetString(&message, &field, text);
      return absl::OkStatus();
  }
}

absl::Status PolicyReader::ReadBatch(const YAML::Node& node,
                                     v1::Policy& policy) {
  if (!node.IsMap()) {
    return Error(node, "batch", "must be a map with keys of count, age");
  }
  auto& batch = *policy.mutable_batch();
  for (const auto& entry : node) {
    const auto key = entry.first.as<std::string>();
    const std::string path = absl::StrCat("batch.", key);
    const std::string value =
        entry.second.IsScalar() ? entry.second.Scalar() : "";
    if (key == "count") {
      int count = 0;
      if (value != "off" && !absl::SimpleAtoi(value, &count)) {
        return Error(entry.second, path, "must be a whole number or off");
      }
      batch.set_count(count);
    } else if (key == "age") {
      auto seconds =
          value == "off" ? absl::StatusOr<int64_t>(0) : ParseSeconds(value);
      if (!seconds.ok()) {
        return Error(entry.second, path, "must be a time like 12h, or off");
      }
      batch.set_age_seconds(*seconds);
    } else if (key != "schedule") {
      return Error(entry.first, path, "unknown key; known are count, age");
    } else if (value != "off") {
      return Error(entry.second, path, "only `off` is supported");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Policy> ParsePolicy(absl::string_view text,
                                       absl::string_view label) {
  v1::Policy policy;
  try {
    YAML::Node root = YAML::Load(std::string(text));
    if (root.IsNull()) return policy;
    CAIRN_RETURN_IF_ERROR(PolicyReader(label).ReadMap(root, "", policy));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(label, ": ", error.what()));
  }
  return policy;
}

absl::StatusOr<int64_t> ParseSeconds(absl::string_view text) {
  int64_t unit = 0;
  if (!text.empty()) {
    switch (text.back()) {
      case 's':
        unit = 1;
        break;
      case 'm':
        unit = 60;
        break;
      case 'h':
        unit = 3600;
        break;
      case 'd':
        unit = 86'400;
        break;
      default:
        break;
    }
  }
  int64_t count = 0;
  if (unit == 0 || !absl::SimpleAtoi(text.substr(0, text.size() - 1), &count) ||
      count <= 0 || count > 1'000'000'000) {
    return absl::InvalidArgumentError(absl::StrCat(
        "`", text, "` is no time; write a number with s, m, h or d, e.g. 30d"));
  }
  return count * unit;
}

}  // namespace cairn
