#include "merge/eval/suite.h"

#include <yaml-cpp/yaml.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr char kFile[] = "suite.yaml";
constexpr int64_t kDescriptionBytesMax = 64 << 10;

// Kinds and the metrics that each can be decided by.
const std::map<std::string, std::set<std::string>>& Metrics() {
  static const auto* const kMetrics =
      new std::map<std::string, std::set<std::string>>{
          {"perplexity",
           {"perplexity", "bits_per_byte", "byte_perplexity",
            "word_perplexity"}},
          {"multiple_choice",
           {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"}},
          {"classification", {"acc"}},
          {"regression", {"r2"}},
          {"generation", {"exact_match"}}};
  return *kMetrics;
}

absl::Status Wrong(absl::string_view key, absl::string_view right) {
  return DamagedSuite(kFile, absl::StrCat("`", key, "` should be ", right));
}

absl::StatusOr<std::string> ReadText(const YAML::Node& node,
                                     absl::string_view key) {
  if (!node.IsScalar()) return Wrong(key, "a text");
  return node.Scalar();
}

absl::StatusOr<bool> ReadFlag(const YAML::Node& node, absl::string_view key) {
  bool value = false;
  if (!YAML::convert<bool>::decode(node, value)) {
    return Wrong(key, "true or false");
  }
  return value;
}

absl::StatusOr<std::vector<int64_t>> ReadIds(const YAML::Node& node,
                                             absl::string_view key) {
  std::vector<int64_t> ids;
  for (const YAML::Node& entry : node) {
    int64_t id = -1;
    if (!YAML::convert<int64_t>::decode(entry, id) || id < 0) {
      return Wrong(key, "a list of token ids");
    }
    ids.push_back(id);
  }
  if (!node.IsSequence() || ids.empty()) {
    return Wrong(key, "a list of token ids");
  }
  return ids;
}

absl::Status CheckPath(absl::string_view path, absl::string_view key) {
  if (IsInsideSuite(path)) return absl::OkStatus();
  return Wrong(
      key, absl::StrCat("a file beside suite.yaml, which `", path, "` is not"));
}

absl::Status ReadSplits(const YAML::Node& node, SuiteDescription& suite) {
  constexpr char kRight[] = "a map from search, gate, audit or dev to a file";
  if (!node.IsMap() || node.size() == 0) return Wrong("splits", kRight);
  for (const auto& entry : node) {
    CAIRN_ASSIGN_OR_RETURN(const std::string name,
                           ReadText(entry.first, "splits"));
    const std::string key = absl::StrCat("splits.", name);
    if (name != "search" && name != "gate" && name != "audit" &&
        name != "dev") {
      return DamagedSuite(kFile, absl::StrCat("split `", name,
                                              "` is unknown; there are "
                                              "search, gate, audit and dev"));
    }
    CAIRN_ASSIGN_OR_RETURN(const std::string path, ReadText(entry.second, key));
    CAIRN_RETURN_IF_ERROR(CheckPath(path, key));
    if (!suite.splits.emplace(name, path).second) {
      return DamagedSuite(kFile, absl::StrCat("`", key, "` is given twice"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadKey(const std::string& key, const YAML::Node& node,
                     SuiteDescription& suite) {
  if (key == "splits") return ReadSplits(node, suite);
  if (TextRules::IsKey(key)) {
    const absl::Status read = suite.text_rules.Read(key, node);
    return read.ok() ? read : DamagedSuite(kFile, read.message());
  }
  if (key == "prefix_ids") {
    CAIRN_ASSIGN_OR_RETURN(suite.prefix_ids, ReadIds(node, key));
    return absl::OkStatus();
  }
  if (key == "higher_is_better") {
    CAIRN_ASSIGN_OR_RETURN(suite.higher_is_better, ReadFlag(node, key));
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadText(node, key));
  if (key == "name") {
    suite.name = text;
  } else if (key == "kind") {
    suite.kind = text;
  } else if (key == "metric") {
    suite.metric = text;
  } else if (key == "description") {
    suite.description = text;
  } else if (key == "license") {
    suite.license = text;
  } else if (key == "classes") {
    suite.classes = text;
    return CheckPath(text, key);
  } else if (key == "target_delimiter") {
    suite.target_delimiter = text;
  } else {
    return DamagedSuite(kFile, absl::StrCat("unknown key `", key, "`"));
  }
  return absl::OkStatus();
}

absl::Status CheckMeaning(const std::set<std::string>& keys,
                          SuiteDescription& suite) {
  for (const char* key : {"name", "kind", "metric", "splits"}) {
    if (!keys.contains(key)) {
      return DamagedSuite(kFile, absl::StrCat("`", key, "` is missing"));
    }
  }
  if (suite.name.empty()) return Wrong("name", "a name");
  const auto kind = Metrics().find(suite.kind);
  if (kind == Metrics().end()) {
    return DamagedSuite(
        kFile, absl::StrCat("kind `", suite.kind,
                            "` is unknown; there are perplexity, "
                            "multiple_choice, classification, regression and "
                            "generation"));
  }
  if (!kind->second.contains(suite.metric)) {
    return DamagedSuite(
        kFile,
        absl::StrCat("metric `", suite.metric, "` is none of kind ", suite.kind,
                     ", which has ", absl::StrJoin(kind->second, ", ")));
  }
  if (suite.text_rules.is_set() && suite.kind != "generation") {
    return DamagedSuite(kFile, absl::StrCat("`until`, `filters` and "
                                            "`exact_match` are for kind "
                                            "generation, not ",
                                            suite.kind));
  }
  const bool is_higher_better = suite.kind != "perplexity";
  if (keys.contains("higher_is_better") &&
      suite.higher_is_better != is_higher_better) {
    return Wrong("higher_is_better",
                 absl::StrCat(is_higher_better ? "true" : "false",
                              " for metric ", suite.metric));
  }
  suite.higher_is_better = is_higher_better;
  return absl::OkStatus();
}

absl::StatusOr<SuiteDescription> ParseDescription(const std::string& text) {
  const YAML::Node root = YAML::Load(text);
  if (!root.IsMap()) return DamagedSuite(kFile, "should be a map of keys");
  SuiteDescription suite;
  std::set<std::string> keys;
  for (const auto& entry : root) {
    if (!entry.first.IsScalar()) return DamagedSuite(kFile, "a key is no text");
    const std::string key = entry.first.Scalar();
    if (!keys.insert(key).second) {
      return DamagedSuite(kFile, absl::StrCat("`", key, "` is given twice"));
    }
    CAIRN_RETURN_IF_ERROR(ReadKey(key, entry.second, suite));
  }
  CAIRN_RETURN_IF_ERROR(CheckMeaning(keys, suite));
  return suite;
}

}  // namespace

bool IsInsideSuite(absl::string_view path) {
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

absl::Status DamagedSuite(absl::string_view file, absl::string_view message) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat(file, ": ", message),
                       {{"file", std::string(file)}});
}

absl::StatusOr<SuiteDescription> SuiteDescription::Parse(
    absl::string_view yaml) {
  try {
    return ParseDescription(std::string(yaml));
  } catch (const YAML::Exception& error) {
    return DamagedSuite(kFile, error.what());
  }
}

absl::StatusOr<std::string> SuiteDescription::ChooseSplit(
    absl::string_view wanted) const {
  std::string split(wanted);
  if (split.empty()) {
    split = splits.size() == 1 ? splits.begin()->first : "search";
  }
  if (splits.contains(split)) return split;
  return absl::InvalidArgumentError(absl::StrCat(
      "suite ", name, " has no split `", split, "`; it has ",
      absl::StrJoin(splits, ", ", [](std::string* out, const auto& entry) {
        absl::StrAppend(out, entry.first);
      })));
}

absl::StatusOr<Suite> Suite::Open(FileMap files) {
  const auto file = files.find(kFile);
  if (file == files.end()) {
    return absl::NotFoundError("the suite has no suite.yaml");
  }
  const absl::StatusOr<std::string> text =
      ReadAll(*file->second, kDescriptionBytesMax);
  if (!text.ok()) return DamagedSuite(kFile, text.status().message());
  CAIRN_ASSIGN_OR_RETURN(SuiteDescription description,
                         SuiteDescription::Parse(*text));
  return Suite{.description = std::move(description),
               .files = std::move(files)};
}

absl::StatusOr<Suite> Suite::OpenDirectory(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(directory));
  absl::StatusOr<Suite> suite = Open(std::move(files));
  if (!suite.ok()) return Annotate(suite.status(), directory);
  return suite;
}

}  // namespace cairn
