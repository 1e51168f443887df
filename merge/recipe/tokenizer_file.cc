#include "merge/recipe/tokenizer_file.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

// Larger numbers are no rows of an embedding.
constexpr int64_t kTokensMax = 1 << 28;

absl::Status Malformed(absl::string_view label, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(label, ": ", what),
                       {{"file", "tokenizer.json"}});
}

std::string Dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The two tokens that a merge of BPE puts together.
std::vector<std::string> PartsOf(const Json& merge) {
  std::vector<std::string> parts;
  if (merge.is_array()) {
    for (const Json& part : merge) {
      if (part.is_string()) parts.push_back(part.get<std::string>());
    }
  } else if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space == std::string::npos) return parts;
    parts = {text.substr(0, space), text.substr(space + 1)};
  }
  return parts;
}

bool IsToken(const Json& entry) {
  return entry.is_object() && entry.contains("content") &&
         entry["content"].is_string() && entry.contains("id") &&
         entry["id"].is_number_integer();
}

}  // namespace

absl::StatusOr<TokenizerFile> TokenizerFile::Parse(absl::string_view text,
                                                   absl::string_view label) {
  if (IsDeepJson(text)) return Malformed(label, "nests too deeply");
  TokenizerFile file;
  file.label_ = std::string(label);
  file.json_ = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!file.json_.is_object() || !file.json_.contains("model") ||
      !file.json_["model"].is_object() ||
      !file.json_["model"].contains("vocab")) {
    return Malformed(label, "is no tokenizer with a model and its vocab");
  }
  std::map<int64_t, std::string> by_number;
  const auto take = [&](const std::string& token,
                        int64_t number) -> absl::Status {
    if (number < 0 || number >= kTokensMax) {
      return Malformed(
          label, absl::StrCat("token \"", token, "\" has the number ", number));
    }
    const auto [other, is_new] = by_number.emplace(number, token);
    const auto [same, is_first] = file.tokens_.emplace(token, number);
    if ((!is_new && other->second != token) ||
        (!is_first && same->second != number)) {
      return Malformed(label, absl::StrCat("number ", number, " and token \"",
                                           token, "\" are not one another's"));
    }
    file.next_ = std::max(file.next_, number + 1);
    return absl::OkStatus();
  };
  const Json& vocab = file.json_["model"]["vocab"];
  if (vocab.is_object()) {
    for (const auto& [token, number] : vocab.items()) {
      if (!number.is_number_integer()) {
        return Malformed(label, "its vocab has a token without a number");
      }
      CAIRN_RETURN_IF_ERROR(take(token, number.get<int64_t>()));
    }
  } else if (vocab.is_array()) {  // Unigram: [token, score], numbered in order
    for (size_t i = 0; i < vocab.size(); ++i) {
      if (!vocab[i].is_array() || vocab[i].empty() ||
          !vocab[i][0].is_string()) {
        return Malformed(label, "its vocab has an entry that is no token");
      }
      CAIRN_RETURN_IF_ERROR(
          take(vocab[i][0].get<std::string>(), static_cast<int64_t>(i)));
    }
  } else {
    return Malformed(label, "its vocab is neither a list nor a mapping");
  }
  if (!file.json_.contains("added_tokens")) {
    file.json_["added_tokens"] = Json::array();
  }
  if (!file.json_["added_tokens"].is_array()) {
    return Malformed(label, "its added_tokens are no list");
  }
  for (const Json& entry : file.json_["added_tokens"]) {
    if (!IsToken(entry)) {
      return Malformed(label, "an added token has no content or no number");
    }
    const auto token = entry["content"].get<std::string>();
    CAIRN_RETURN_IF_ERROR(take(token, entry["id"].get<int64_t>()));
    file.added_[token] = entry;
  }
  return file;
}

absl::Status TokenizerFile::DropFrom(int64_t limit) {
  std::set<std::string> dropped;
  next_ = 0;
  for (const auto& [token, number] : tokens_) {
    if (number >= limit) {
      dropped.insert(token);
    } else {
      next_ = std::max(next_, number + 1);
    }
  }
  if (dropped.empty()) return absl::OkStatus();
  Json kept = Json::array();
  for (Json& entry : json_["added_tokens"]) {
    if (!dropped.contains(entry["content"].get<std::string>())) {
      kept.push_back(std::move(entry));
    }
  }
  json_["added_tokens"] = std::move(kept);
  Json& model = json_["model"];
  for (const std::string& token : dropped) {
    tokens_.erase(token);
    added_.erase(token);
    const bool is_listed =
        model["vocab"].is_object() && model["vocab"].contains(token);
    if (!is_listed && model["vocab"].is_object()) continue;
    if (!is_listed || !model.contains("merges")) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
          absl::StrCat(label_, ": token \"", token,
                       "\" has a number past the model's rows; only from a "
                       "BPE can it be taken"),
          {{"file", "tokenizer.json"}});
    }
    model["vocab"].erase(token);
  }
  if (!model.contains("merges")) return absl::OkStatus();
  Json merges = Json::array();
  for (Json& merge : model["merges"]) {
    const std::vector<std::string> parts = PartsOf(merge);
    const bool is_cut = std::any_of(
        parts.begin(), parts.end(),
        [&](const std::string& part) { return dropped.contains(part); });
    if (!is_cut) merges.push_back(std::move(merge));
  }
  model["merges"] = std::move(merges);
  return absl::OkStatus();
}

void TokenizerFile::Add(const std::string& token, const TokenizerFile& other) {
  Json entry = {{"id", next_},     {"content", token}, {"single_word", false},
                {"lstrip", false}, {"rstrip", false},  {"normalized", true},
                {"special", false}};
  if (const auto known = other.added_.find(token);
      known != other.added_.end()) {
    entry = known->second;
    entry["id"] = next_;
  }
  tokens_[token] = next_++;
  json_["added_tokens"].push_back(entry);
  added_[token] = std::move(entry);
}

void TokenizerFile::MakeAdded(const std::string& token,
                              const TokenizerFile& other) {
  Json entry = other.added_.at(token);
  entry["id"] = tokens_.at(token);
  json_["added_tokens"].push_back(entry);
  added_[token] = std::move(entry);
}

std::string TokenizerFile::Text() const { return Dump(json_); }

std::string TokenizerFile::ConfigText(absl::string_view text) const {
  if (IsDeepJson(text)) return std::string(text);
  Json config = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!config.is_object() || !config.contains("added_tokens_decoder")) {
    return std::string(text);
  }
  Json& listed = config["added_tokens_decoder"];
  listed = Json::object();
  for (const Json& entry : json_["added_tokens"]) {
    Json settings = entry;
    settings.erase("id");
    listed[std::to_string(entry["id"].get<int64_t>())] = std::move(settings);
  }
  return Dump(config);
}

}  // namespace cairn
