#include "merge/cli/merge_record_file.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int kFormatVersion = 1;

}  // namespace

absl::StatusOr<MergeRecordFile> MergeRecordFile::Read(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat(path, " is no merge record: ", what));
  };
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return damaged("it is not a JSON object");
  MergeRecordFile file;
  try {
    if (json.at("formatVersion").get<int>() != kFormatVersion) {
      return damaged("formatVersion is not 1");
    }
    file.base = json.at("base").get<std::string>();
    for (const auto& adapter : json.at("adapters")) {
      file.adapters.push_back({adapter.at("path").get<std::string>(),
                               adapter.at("weight").get<double>()});
    }
    const auto parsed = google::protobuf::util::JsonStringToMessage(
        json.at("record").dump(), &file.record);
    if (!parsed.ok()) return damaged(std::string(parsed.message()));
  } catch (const nlohmann::json::exception& error) {
    return damaged(error.what());
  }
  return file;
}

absl::Status MergeRecordFile::Write(const std::string& path) const {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto printed =
      google::protobuf::util::MessageToJsonString(record, &text, options);
  if (!printed.ok()) {
    return absl::InternalError(std::string(printed.message()));
  }
  nlohmann::ordered_json json;
  json["formatVersion"] = kFormatVersion;
  json["base"] = base;
  json["adapters"] = nlohmann::ordered_json::array();
  for (const Adapter& adapter : adapters) {
    json["adapters"].push_back(
        {{"path", adapter.path}, {"weight", adapter.weight}});
  }
  json["record"] = nlohmann::ordered_json::parse(text);
  return WriteFile(path, json.dump(2) + "\n");
}

}  // namespace cairn
