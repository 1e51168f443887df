#include "core/suite/text_rules.h"

#include <re2/re2.h>
#include <unicode/locid.h>
#include <unicode/stringpiece.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr size_t kPatternBytesMax = 1024;
constexpr int kListMax = 100;

using Pattern = std::shared_ptr<const re2::RE2>;

absl::Status Wrong(absl::string_view key, absl::string_view right) {
  return absl::InvalidArgumentError(
      absl::StrCat("`", key, "` should be ", right));
}

absl::StatusOr<std::string> TextOf(const YAML::Node& node,
                                   absl::string_view key) {
  if (!node.IsDefined() || !node.IsScalar()) return Wrong(key, "a text");
  return node.Scalar();
}

absl::StatusOr<std::vector<std::string>> TextsOf(const YAML::Node& node,
                                                 absl::string_view key) {
  std::vector<std::string> texts;
  if (!node.IsSequence() || node.size() > kListMax) {
    return Wrong(key, absl::StrCat("a list of at most ", kListMax, " texts"));
  }
  for (const YAML::Node& entry : node) {
    CAIRN_ASSIGN_OR_RETURN(texts.emplace_back(), TextOf(entry, key));
  }
  return texts;
}

absl::StatusOr<bool> FlagOf(const YAML::Node& node, absl::string_view key) {
  bool value = false;
  if (node.IsScalar() && YAML::convert<bool>::decode(node, value)) return value;
  return Wrong(key, "true or false");
}

absl::StatusOr<Pattern> Compile(const std::string& text,
                                absl::string_view key) {
  if (text.size() > kPatternBytesMax) {
    return Wrong(key, absl::StrCat("a pattern of at most ", kPatternBytesMax,
                                   " bytes, not ", text.size()));
  }
  auto pattern = std::make_shared<const re2::RE2>(text, re2::RE2::Quiet);
  if (!pattern->ok()) {
    return Wrong(key, absl::StrCat("a regular expression of RE2 (no look-"
                                   "around, no back-references): ",
                                   pattern->error()));
  }
  return pattern;
}

// The keys of a map are among `known`, each once.
absl::Status CheckKeys(const YAML::Node& node, absl::string_view of,
                       const std::vector<std::string>& known) {
  if (!node.IsMap()) return Wrong(of, "a map of keys");
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("`", of, "` has an unknown key `", key,
                       "`; it may have ", absl::StrJoin(known, ", ")));
    }
    if (!seen.insert(key).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("`", of, ".", key, "` is given twice"));
    }
  }
  return absl::OkStatus();
}

std::string ToCase(const std::string& text, bool is_upper) {
  icu::UnicodeString wide = icu::UnicodeString::fromUTF8(text);
  if (is_upper) {
    wide.toUpper(icu::Locale::getRoot());
  } else {
    wide.toLower(icu::Locale::getRoot());
  }
  std::string out;
  wide.toUTF8String(out);
  return out;
}

// What Python's str.strip() takes off.
bool IsSpace(UChar32 c) {
  return u_isUWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
}

// Bytes of the character that begins at `at`; 1 where there is none.
size_t CharacterBytes(const std::string& text, size_t at) {
  const auto length = static_cast<int32_t>(text.size());
  auto next = static_cast<int32_t>(at);
  U8_FWD_1(text.data(), next, length);
  return static_cast<size_t>(next) - at;
}

// The text without white space at its sides.
std::string Strip(const std::string& text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = CharacterBytes(text, at);
    const icu::UnicodeString one = icu::UnicodeString::fromUTF8(
        icu::StringPiece(text.data() + at, static_cast<int32_t>(bytes)));
    if (!IsSpace(one.char32At(0))) {
      begin = std::min(begin, at);
      end = at + bytes;
    }
    at += bytes;
  }
  return begin < end ? text.substr(begin, end - begin) : "";
}

// Every match as Python's findall gives it: the first group that is not empty,
// or the whole where there are none. A match whose groups are all empty has
// none, if there are several.
std::vector<std::optional<std::string>> FindAll(const re2::RE2& pattern,
                                                const std::string& text) {
  const int groups = pattern.NumberOfCapturingGroups();
  std::vector<re2::StringPiece> parts(static_cast<size_t>(groups) + 1);
  std::vector<std::optional<std::string>> found;
  size_t at = 0;
  while (at <= text.size() &&
         pattern.Match(text, at, text.size(), re2::RE2::UNANCHORED,
                       parts.data(), groups + 1)) {
    std::optional<std::string> value;
    if (groups <= 1) value = std::string(parts.back());
    for (size_t i = 1; groups > 1 && i < parts.size() && !value; ++i) {
      if (!parts[i].empty()) value = std::string(parts[i]);
    }
    found.push_back(std::move(value));
    const auto begin = static_cast<size_t>(parts[0].data() - text.data());
    at = begin + parts[0].size();
    if (parts[0].empty()) {
      if (at >= text.size()) break;
      at += CharacterBytes(text, at);
    }
  }
  return found;
}

absl::StatusOr<std::function<std::string(std::string)>> RegexFilter(
    const YAML::Node& node, const std::string& key) {
  CAIRN_RETURN_IF_ERROR(CheckKeys(
      node, key, {"function", "regex_pattern", "group_select", "fallback"}));
  CAIRN_ASSIGN_OR_RETURN(const std::string text,
                         TextOf(node["regex_pattern"], key + ".regex_pattern"));
  CAIRN_ASSIGN_OR_RETURN(const Pattern pattern,
                         Compile(text, key + ".regex_pattern"));
  int select = 0;
  if (const YAML::Node given = node["group_select"];
      given.IsDefined() && !YAML::convert<int>::decode(given, select)) {
    return Wrong(key + ".group_select", "a whole number");
  }
  std::string fallback = "[invalid]";
  if (node["fallback"].IsDefined()) {
    CAIRN_ASSIGN_OR_RETURN(fallback,
                           TextOf(node["fallback"], key + ".fallback"));
  }
  return [pattern, select, fallback](const std::string& value) {
    const auto found = FindAll(*pattern, value);
    const auto count = static_cast<int64_t>(found.size());
    const int64_t at = select < 0 ? count + select : select;
    if (at < 0 || at >= count) return fallback;
    const auto& match = found[static_cast<size_t>(at)];
    return match.has_value() ? Strip(*match) : Strip(fallback);
  };
}

absl::StatusOr<std::function<std::string(std::string)>> MapFilter(
    const YAML::Node& node, const std::string& key) {
  CAIRN_RETURN_IF_ERROR(
      CheckKeys(node, key, {"function", "mapping_dict", "default_value"}));
  const YAML::Node pairs = node["mapping_dict"];
  if (!pairs.IsDefined() || !pairs.IsMap()) {
    return Wrong(key + ".mapping_dict", "a map from texts to texts");
  }
  std::map<std::string, std::string> mapping;
  for (const auto& pair : pairs) {
    CAIRN_ASSIGN_OR_RETURN(const std::string from,
                           TextOf(pair.first, key + ".mapping_dict"));
    CAIRN_ASSIGN_OR_RETURN(mapping[from],
                           TextOf(pair.second, key + ".mapping_dict"));
  }
  std::string otherwise;
  if (node["default_value"].IsDefined()) {
    CAIRN_ASSIGN_OR_RETURN(
        otherwise, TextOf(node["default_value"], key + ".default_value"));
  }
  return [mapping, otherwise](const std::string& value) {
    const auto found = mapping.find(value);
    return found == mapping.end() ? otherwise : found->second;
  };
}

absl::StatusOr<std::function<std::string(std::string)>> MakeFilter(
    const YAML::Node& node, const std::string& key) {
  if (!node.IsMap()) return Wrong(key, "a map with a `function`");
  CAIRN_ASSIGN_OR_RETURN(const std::string function,
                         TextOf(node["function"], key + ".function"));
  if (function == "regex") return RegexFilter(node, key);
  if (function == "map") return MapFilter(node, key);
  CAIRN_RETURN_IF_ERROR(CheckKeys(node, key, {"function"}));
  if (function == "take_first") {
    // Greedy generation gives one text.
    return [](std::string text) { return text; };
  }
  if (function == "lowercase") {
    return [](const std::string& text) { return ToCase(text, false); };
  }
  if (function == "uppercase") {
    return [](const std::string& text) { return ToCase(text, true); };
  }
  if (function == "remove_whitespace") {
    return [](const std::string& text) { return Strip(text); };
  }
  return Wrong(key + ".function",
               "regex, take_first, lowercase, uppercase, remove_whitespace or "
               "map");
}

template <typename Drop>
std::string Without(std::string text, Drop drop) {
  text.erase(std::remove_if(
                 text.begin(), text.end(),
                 [&](char c) { return drop(static_cast<unsigned char>(c)); }),
             text.end());
  return text;
}

}  // namespace

bool TextRules::IsKey(absl::string_view key) {
  return key == "until" || key == "filters" || key == "exact_match";
}

absl::Status TextRules::Read(absl::string_view key, const YAML::Node& node) {
  is_set_ = true;
  if (key == "until") return ReadUntil(node);
  return key == "filters" ? ReadFilters(node) : ReadMatch(node);
}

absl::Status TextRules::ReadUntil(const YAML::Node& node) {
  CAIRN_ASSIGN_OR_RETURN(until_, TextsOf(node, "until"));
  for (const std::string& end : until_) {
    if (end.empty()) return Wrong("until", "texts that are not empty");
  }
  return absl::OkStatus();
}

absl::Status TextRules::ReadFilters(const YAML::Node& node) {
  if (!node.IsSequence() || node.size() > kListMax) {
    return Wrong("filters", "a list of filters");
  }
  for (const YAML::Node& entry : node) {
    const std::string key = absl::StrCat("filters[", filters_.size(), "]");
    CAIRN_ASSIGN_OR_RETURN(filters_.emplace_back(), MakeFilter(entry, key));
  }
  return absl::OkStatus();
}

absl::Status TextRules::ReadMatch(const YAML::Node& node) {
  CAIRN_RETURN_IF_ERROR(CheckKeys(node, "exact_match",
                                  {"regexes_to_ignore", "ignore_case",
                                   "ignore_punctuation", "ignore_numbers"}));
  if (const YAML::Node list = node["regexes_to_ignore"]; list.IsDefined()) {
    constexpr char kKey[] = "exact_match.regexes_to_ignore";
    CAIRN_ASSIGN_OR_RETURN(const auto texts, TextsOf(list, kKey));
    for (const std::string& text : texts) {
      CAIRN_ASSIGN_OR_RETURN(const Pattern pattern, Compile(text, kKey));
      ignored_.push_back([pattern](std::string value) {
        re2::RE2::GlobalReplace(&value, *pattern, "");
        return value;
      });
    }
  }
  const auto flag = [&](const char* key) -> absl::StatusOr<bool> {
    if (!node[key].IsDefined()) return false;
    return FlagOf(node[key], absl::StrCat("exact_match.", key));
  };
  CAIRN_ASSIGN_OR_RETURN(const bool no_case, flag("ignore_case"));
  CAIRN_ASSIGN_OR_RETURN(const bool no_signs, flag("ignore_punctuation"));
  CAIRN_ASSIGN_OR_RETURN(const bool no_digits, flag("ignore_numbers"));
  if (no_case) {
    ignored_.push_back([](const std::string& t) { return ToCase(t, false); });
  }
  if (no_signs) {
    ignored_.push_back([](std::string text) {
      return Without(std::move(text), absl::ascii_ispunct);
    });
  }
  if (no_digits) {
    ignored_.push_back([](std::string text) {
      return Without(std::move(text), absl::ascii_isdigit);
    });
  }
  return absl::OkStatus();
}

bool TextRules::IsOver(absl::string_view text) const {
  return std::any_of(until_.begin(), until_.end(), [&](const auto& end) {
    return text.find(end) != absl::string_view::npos;
  });
}

std::string TextRules::Cut(absl::string_view text) const {
  for (const std::string& end : until_) text = text.substr(0, text.find(end));
  return std::string(text);
}

std::string TextRules::Filter(std::string text) const {
  for (const Step& step : filters_) text = step(std::move(text));
  return text;
}

std::string TextRules::WithoutIgnored(std::string text) const {
  for (const Step& step : ignored_) text = step(std::move(text));
  return text;
}

bool TextRules::Matches(absl::string_view text,
                        absl::string_view target) const {
  return WithoutIgnored(std::string(text)) ==
         WithoutIgnored(std::string(target));
}

}  // namespace cairn
