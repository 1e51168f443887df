#include "server/suite/suite_reader.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/suite/text_rules.h"
#include "server/suite/suite_item.h"

namespace cairn {
namespace {

constexpr int64_t kYamlBytesMax = 64 << 10;
constexpr int64_t kLineBytesMax = 8 << 20;
constexpr int64_t kTileBytes = 1 << 20;
constexpr size_t kFilesMax = 1000;

absl::Status Wrong(absl::string_view file, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(file, ": ", what),
                       {{"file", std::string(file)}});
}

absl::Status CheckFileNames(const FileMap& files) {
  if (files.size() > kFilesMax) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat("a suite of ", files.size(),
                                      " files; at most ", kFilesMax));
  }
  int64_t total = 0;
  for (const auto& [path, source] : files) {
    CAIRN_RETURN_IF_ERROR(CheckRelativePath(path));
    absl::string_view name = path;
    bool is_data = path == kSuiteFile || absl::EndsWith(name, ".jsonl") ||
                   absl::EndsWith(name, ".safetensors") ||
                   absl::EndsWith(name, ".md") ||
                   absl::StartsWith(name, "LICENSE");
    if (!is_data) {
      return ReasonedError(absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
                           absl::StrCat(path,
                                        ": a suite holds suite.yaml, *.jsonl, "
                                        "*.safetensors, *.md and LICENSE only"),
                           {{"file", path}});
    }
    total += source->size();
  }
  if (total > kSuiteBytesMax) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat("the suite has ", total,
                                      " bytes; at most ", kSuiteBytesMax));
  }
  return absl::OkStatus();
}

// yaml-cpp reports by exceptions; they end here.
absl::StatusOr<YAML::Node> LoadYaml(const std::string& text) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    return Wrong(kSuiteFile, absl::StrCat("line ", error.mark.line + 1,
                                          ": not YAML: ", error.msg));
  }
}

absl::Status CheckKeys(const YAML::Node& root) {
  static const auto* const kKeys =
      new std::set<std::string>{"name",        "kind",
                                "metric",      "higher_is_better",
                                "description", "license",
                                "splits",      "classes",
                                "prefix_ids",  "target_delimiter",
                                "until",       "filters",
                                "exact_match"};
  if (!root.IsMap()) return Wrong(kSuiteFile, "is not a mapping");
  std::set<std::string> seen;
  for (const auto& entry : root) {
    std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    std::string line = absl::StrCat("line ", entry.first.Mark().line + 1, ": ");
    if (!kKeys->contains(key)) {
      return Wrong(kSuiteFile,
                   absl::StrCat(line, "'", key, "' is not a key; known: ",
                                absl::StrJoin(*kKeys, ", ")));
    }
    if (!seen.insert(key).second) {
      return Wrong(kSuiteFile, absl::StrCat(line, key, " is given twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Text(const YAML::Node& root, const char* key) {
  YAML::Node node = root[key];
  if (node.IsDefined() && node.IsScalar()) return node.Scalar();
  return Wrong(kSuiteFile, absl::StrCat(key, " is missing or not a text"));
}

absl::StatusOr<std::map<std::string, std::string>> Splits(
    const YAML::Node& root, const FileMap& files) {
  YAML::Node node = root["splits"];
  if (!node.IsDefined() || !node.IsMap()) {
    return Wrong(kSuiteFile,
                 "splits is missing or not a mapping of names to files");
  }
  std::map<std::string, std::string> out;
  for (const auto& entry : node) {
    std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    std::string file = entry.second.IsScalar() ? entry.second.Scalar() : "";
    if (name != "search" && name != "gate" && name != "audit" &&
        name != "dev") {
      return Wrong(kSuiteFile, absl::StrCat("split '", name,
                                            "' is none of search, gate, "
                                            "audit and dev"));
    }
    if (!files.contains(file)) {
      return Wrong(kSuiteFile, absl::StrCat("splits.", name, " names '", file,
                                            "', which is not beside it"));
    }
    if (!out.emplace(name, file).second) {
      return Wrong(kSuiteFile, absl::StrCat("split ", name, " is given twice"));
    }
  }
  for (const char* needed : {"search", "gate", "audit"}) {
    if (!out.contains(needed)) {
      return Wrong(kSuiteFile, absl::StrCat("splits.", needed,
                                            " is missing; the hub decides by "
                                            "search, gate and audit"));
    }
  }
  return out;
}

absl::Status CheckDetails(const YAML::Node& root, const FileMap& files,
                          SuiteDescription& out) {
  if (YAML::Node classes = root["classes"]; classes.IsDefined()) {
    if (!classes.IsScalar() || !files.contains(classes.Scalar())) {
      return Wrong(kSuiteFile, "classes must name a file beside it");
    }
    out.classes = classes.Scalar();
  }
  if (YAML::Node prefix = root["prefix_ids"]; prefix.IsDefined()) {
    bool is_ids = prefix.IsSequence();
    for (size_t i = 0; is_ids && i < prefix.size(); ++i) {
      is_ids =
          prefix[i].IsScalar() && !prefix[i].Scalar().empty() &&
          std::all_of(
              prefix[i].Scalar().begin(), prefix[i].Scalar().end(), [](char c) {
                return absl::ascii_isdigit(static_cast<unsigned char>(c));
              });
    }
    if (!is_ids) {
      return Wrong(kSuiteFile, "prefix_ids must be a list of token ids");
    }
  }
  if (YAML::Node delimiter = root["target_delimiter"];
      delimiter.IsDefined() && !delimiter.IsScalar()) {
    return Wrong(kSuiteFile, "target_delimiter must be a text");
  }
  return absl::OkStatus();
}

// How generated texts are compared, if the suite says so.
absl::Status CheckTextRules(const YAML::Node& root, SuiteDescription& out) {
  TextRules rules;
  for (const auto& entry : root) {
    const std::string& key = entry.first.Scalar();
    if (!TextRules::IsKey(key)) continue;
    if (absl::Status read = rules.Read(key, entry.second); !read.ok()) {
      return Wrong(kSuiteFile, read.message());
    }
    if (out.kind != "generation") {
      return Wrong(kSuiteFile, absl::StrCat(key,
                                            " is for kind generation, "
                                            "not ",
                                            out.kind));
    }
  }
  out.compares_texts = rules.is_set();
  return absl::OkStatus();
}

absl::StatusOr<SuiteDescription> ReadDescription(const FileMap& files) {
  auto found = files.find(kSuiteFile);
  if (found == files.end()) {
    return Wrong(kSuiteFile, "is missing: it describes the suite");
  }
  CAIRN_ASSIGN_OR_RETURN(std::string text,
                         ReadAll(*found->second, kYamlBytesMax));
  CAIRN_ASSIGN_OR_RETURN(YAML::Node root, LoadYaml(text));
  CAIRN_RETURN_IF_ERROR(CheckKeys(root));
  SuiteDescription out;
  CAIRN_RETURN_IF_ERROR(Text(root, "name"));
  CAIRN_ASSIGN_OR_RETURN(out.kind, Text(root, "kind"));
  CAIRN_ASSIGN_OR_RETURN(out.metric, Text(root, "metric"));
  CAIRN_ASSIGN_OR_RETURN(std::string higher, Text(root, "higher_is_better"));
  CAIRN_ASSIGN_OR_RETURN(out.description, Text(root, "description"));
  CAIRN_ASSIGN_OR_RETURN(out.license, Text(root, "license"));
  if (!IsSuiteKind(out.kind)) {
    return Wrong(kSuiteFile,
                 absl::StrCat("kind '", out.kind,
                              "' is none of perplexity, multiple_choice, "
                              "classification, regression and generation"));
  }
  if (!IsMetricOf(out.kind, out.metric)) {
    return Wrong(kSuiteFile, absl::StrCat("metric '", out.metric,
                                          "' is not one of kind ", out.kind));
  }
  out.higher_is_better = out.kind != "perplexity";
  if (higher != (out.higher_is_better ? "true" : "false")) {
    return Wrong(
        kSuiteFile,
        absl::StrCat("higher_is_better is ", higher, "; for ", out.metric,
                     " it is ", out.higher_is_better ? "true" : "false"));
  }
  CAIRN_RETURN_IF_ERROR(CheckDetails(root, files, out));
  CAIRN_RETURN_IF_ERROR(CheckTextRules(root, out));
  CAIRN_ASSIGN_OR_RETURN(out.splits, Splits(root, files));
  return out;
}

// Counts the items of a split and checks each.
class SplitReader {
 public:
  // Adds the digest of every item to `digests`, unless it is null.
  SplitReader(const SuiteDescription& suite, absl::string_view path,
              std::set<std::string>* digests)
      : kind_(suite.kind),
        compares_texts_(suite.compares_texts),
        path_(path),
        digests_(digests) {}

  absl::Status Read(const ByteSource& source) {
    std::vector<char> tile(
        static_cast<size_t>(std::min(kTileBytes, source.size())));
    for (int64_t at = 0; at < source.size();) {
      int64_t size = std::min(kTileBytes, source.size() - at);
      absl::Span<char> part(tile.data(), static_cast<size_t>(size));
      CAIRN_RETURN_IF_ERROR(source.ReadAt(at, part));
      CAIRN_RETURN_IF_ERROR(Take(absl::string_view(part.data(), part.size())));
      at += size;
    }
    CAIRN_RETURN_IF_ERROR(EndLine());
    if (items_ == 0) return Wrong(path_, "has no items");
    return absl::OkStatus();
  }

  int64_t items() const { return items_; }

 private:
  absl::Status Take(absl::string_view bytes) {
    while (!bytes.empty()) {
      size_t end = bytes.find('\n');
      absl::string_view part = bytes.substr(0, end);
      if (static_cast<int64_t>(line_.size() + part.size()) > kLineBytesMax) {
        return ReasonedError(
            absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
            absl::StrCat(path_, ":", number_, " is longer than ", kLineBytesMax,
                         " bytes"));
      }
      absl::StrAppend(&line_, part);
      if (end == absl::string_view::npos) return absl::OkStatus();
      CAIRN_RETURN_IF_ERROR(EndLine());
      bytes.remove_prefix(end + 1);
    }
    return absl::OkStatus();
  }

  absl::Status EndLine() {
    std::string place = absl::StrCat(path_, ":", number_++);
    std::string line = std::move(line_);
    line_.clear();
    if (absl::StripAsciiWhitespace(line).empty()) return absl::OkStatus();
    CAIRN_ASSIGN_OR_RETURN(SuiteItem item,
                           CheckSuiteItem(kind_, compares_texts_, line, place));
    if (!ids_.insert(item.id).second) {
      return Wrong(place, absl::StrCat("id '", item.id, "' was used before"));
    }
    if (digests_ != nullptr) digests_->insert(Digest::Of(item.content).hex());
    ++items_;
    return absl::OkStatus();
  }

  const std::string kind_;
  const bool compares_texts_;
  const std::string path_;
  std::set<std::string>* const digests_;
  std::string line_;
  int64_t number_ = 1;
  int64_t items_ = 0;
  absl::flat_hash_set<std::string> ids_;
};

}  // namespace

absl::StatusOr<SuiteDescription> ReadSuite(const FileMap& files) {
  CAIRN_RETURN_IF_ERROR(CheckFileNames(files));
  CAIRN_ASSIGN_OR_RETURN(SuiteDescription out, ReadDescription(files));
  for (const auto& [split, path] : out.splits) {
    SplitReader reader(out, path, split == "gate" ? &out.gate_items : nullptr);
    CAIRN_RETURN_IF_ERROR(reader.Read(*files.at(path)));
    out.split_items[split] = reader.items();
  }
  return out;
}

}  // namespace cairn
