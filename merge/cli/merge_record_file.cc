#include "merge/cli/merge_record_file.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int kFormatVersion = 2;

using Json = nlohmann::ordered_json;

MergeRecordFile FromJson(const Json& json) {
  MergeRecordFile file;
  file.order.recipe = json.value("recipe", "");
  file.order.recipe_label = json.value("recipeFile", "");
  file.order.base = json.value("base", "");
  for (const Json& adapter : json.value("adapters", Json::array())) {
    file.order.adapters.push_back({adapter.at("path").get<std::string>(),
                                   adapter.at("weight").get<double>()});
  }
  file.order.profile = json.value("profile", "");
  file.order.seed = json.at("seed").get<uint64_t>();
  file.order.directory = json.at("directory").get<std::string>();
  file.code_version = json.at("codeVersion").get<std::string>();
  for (const Json& input : json.at("inputs")) {
    file.inputs.push_back({input.at("model").get<std::string>(),
                           input.at("content").get<std::string>()});
  }
  file.digest = json.at("digest").get<std::string>();
  file.tensors = json.at("tensors").get<std::map<std::string, std::string>>();
  return file;
}

}  // namespace

absl::StatusOr<MergeRecordFile> MergeRecordFile::Read(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return Parse(text, path);
}

absl::StatusOr<MergeRecordFile> MergeRecordFile::Parse(
    absl::string_view text, absl::string_view label) {
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat(label, " is no merge record: ", what));
  };
  const Json json = IsDeepJson(text)
                        ? Json(Json::value_t::discarded)
                        : Json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) return damaged("it is not a JSON object");
  try {
    if (json.at("formatVersion") != Json(kFormatVersion)) {
      return damaged(absl::StrCat("formatVersion is not ", kFormatVersion));
    }
    if (!json.at("seed").is_number_unsigned()) {
      return damaged("seed is no integer from 0 on");
    }
    return FromJson(json);
  } catch (const nlohmann::json::exception& error) {
    return damaged(error.what());
  }
}

absl::Status MergeRecordFile::Write(const std::string& path) const {
  return WriteFile(path, Text());
}

std::string MergeRecordFile::Text() const {
  Json json;
  json["formatVersion"] = kFormatVersion;
  json["codeVersion"] = code_version;
  json["directory"] = order.directory;
  if (order.base.empty()) {
    json["recipeFile"] = order.recipe_label;
    json["recipe"] = order.recipe;
    json["profile"] = order.profile;
  } else {
    json["base"] = order.base;
    json["adapters"] = Json::array();
    for (const MergeOrder::Adapter& adapter : order.adapters) {
      json["adapters"].push_back(
          {{"path", adapter.path}, {"weight", adapter.weight}});
    }
  }
  json["seed"] = order.seed;
  json["inputs"] = Json::array();
  for (const Input& input : inputs) {
    json["inputs"].push_back(
        {{"model", input.model}, {"content", input.content}});
  }
  json["digest"] = digest;
  json["tensors"] = tensors;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cairn
