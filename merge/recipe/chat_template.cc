#include "merge/recipe/chat_template.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "merge/recipe/named_templates.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kTemplate[] = "chat_template.jinja";
constexpr char kConfig[] = "tokenizer_config.json";
constexpr char kKey[] = "chat_template";
constexpr int64_t kFileBytesMax = 64 << 20;

absl::StatusOr<std::string> TextOf(const FileMap& files, const char* path) {
  const auto found = files.find(path);
  if (found == files.end()) return std::string();
  return ReadAll(*found->second, kFileBytesMax);
}

Json Parse(const std::string& text) {
  if (IsDeepJson(text)) return Json::value_t::discarded;
  return Json::parse(text.begin(), text.end(), nullptr, false);
}

std::string StringAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>()
                                                     : "";
}

}  // namespace

absl::StatusOr<std::string> ReadChatTemplate(const FileMap& files) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, TextOf(files, kTemplate));
  if (!text.empty()) return text;
  CAIRN_ASSIGN_OR_RETURN(text, TextOf(files, kConfig));
  const Json config = Parse(text);
  if (!config.is_object() || !config.contains(kKey)) return std::string();
  const Json& found = config[kKey];
  if (found.is_object()) return StringAt(found, "default");
  if (!found.is_array()) return StringAt(config, kKey);
  for (const Json& entry : found) {
    if (entry.is_object() && StringAt(entry, "name") == "default") {
      return StringAt(entry, "template");
    }
  }
  return std::string();
}

absl::StatusOr<std::string> ChooseChatTemplate(const Recipe& recipe,
                                               const SourceOpener& open) {
  if (recipe.chat_template != "auto") {
    const absl::string_view named = NamedChatTemplate(recipe.chat_template);
    return named.empty() ? recipe.chat_template : std::string(named);
  }
  std::vector<std::pair<std::string, int>> votes;
  for (const std::string& name : ModelsOf(recipe)) {
    CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<ModelSource> model,
                           open(name));
    CAIRN_ASSIGN_OR_RETURN(std::string text, ReadChatTemplate(model->files()));
    text = std::string(absl::StripAsciiWhitespace(text));
    if (text.empty()) continue;
    const auto known =
        std::find_if(votes.begin(), votes.end(),
                     [&](const auto& vote) { return vote.first == text; });
    if (known != votes.end()) {
      ++known->second;
    } else {
      votes.emplace_back(std::move(text), 1);
    }
  }
  const auto most = std::max_element(
      votes.begin(), votes.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == votes.end() ? std::string() : most->first;
}

absl::Status SetChatTemplate(absl::string_view text, const FileMap& model,
                             std::map<std::string, std::string>& changed) {
  changed[kTemplate] = std::string(text);
  const auto known = changed.find(kConfig);
  std::string config_text;
  if (known != changed.end()) {
    config_text = known->second;
  } else {
    CAIRN_ASSIGN_OR_RETURN(config_text, TextOf(model, kConfig));
  }
  Json config = Parse(config_text);
  if (!config.is_object() || !config.contains(kKey)) return absl::OkStatus();
  config.erase(kKey);
  changed[kConfig] =
      config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  return absl::OkStatus();
}

}  // namespace cairn
