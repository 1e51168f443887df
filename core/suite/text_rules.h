#ifndef CAIRN_CORE_SUITE_TEXT_RULES_H_
#define CAIRN_CORE_SUITE_TEXT_RULES_H_

#include <yaml-cpp/yaml.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// What becomes of a generated text before it counts: where it ends, which
// filters it passes in turn, and when it is what was wanted. The keys of
// suite.yaml, as lm-evaluation-harness has them:
//   until: [TEXT, ...]     the text ends before the first of these
//   filters: [{function: NAME, ...}, ...]
//     regex {regex_pattern, group_select = 0, fallback = "[invalid]"}
//       the match number group_select (from the end: negative), of that its
//       first group that is not empty, without white space around it
//     take_first, lowercase, uppercase, remove_whitespace (around it)
//     map {mapping_dict, default_value = ""}
//   exact_match: {regexes_to_ignore, ignore_case, ignore_punctuation,
//                 ignore_numbers}
//     what both sides lose before they are compared
// Texts are UTF-8. Immutable and thread-safe; copies share their patterns.
class TextRules {
 public:
  // Compares texts as they are.
  TextRules() = default;

  // True for the three keys above.
  static bool IsKey(absl::string_view key);
  // Takes one of these keys. INVALID_ARGUMENT, naming it, when it is not as
  // above, or a pattern is none of RE2's or longer than 1 KiB.
  absl::Status Read(absl::string_view key, const YAML::Node& node);

  // True when any key was read: results are texts, not token ids.
  bool is_set() const { return is_set_; }

  // Whether the text is over: what follows cannot change what Cut gives.
  bool IsOver(absl::string_view text) const;
  // The text up to where it ends.
  std::string Cut(absl::string_view text) const;
  std::string Filter(std::string text) const;
  bool Matches(absl::string_view text, absl::string_view target) const;

 private:
  using Step = std::function<std::string(std::string)>;

  absl::Status ReadUntil(const YAML::Node& node);
  absl::Status ReadFilters(const YAML::Node& node);
  absl::Status ReadMatch(const YAML::Node& node);
  std::string WithoutIgnored(std::string text) const;

  bool is_set_ = false;
  std::vector<std::string> until_;
  std::vector<Step> filters_;
  std::vector<Step> ignored_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_SUITE_TEXT_RULES_H_
