#include "merge/eval/text_encoder.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/process/job_process.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr char kProgram[] = "cairn-tokenize";
constexpr char kConfig[] = "tokenizer_config.json";
// The largest models of sentencepiece have some 5 MB, configurations 1 MB.
constexpr int64_t kFileBytesMax = 256 << 20;
constexpr int64_t kIdsBytesMax = int64_t{1} << 30;

absl::Status Unsupported(absl::string_view why) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       absl::StrCat(why, "; ", kHowToTokenise));
}

// Beside this program, else on PATH.
absl::StatusOr<std::string> FindProgram() {
  std::error_code error;
  std::vector<std::string> folders = {
      fs::read_symlink("/proc/self/exe", error).parent_path().string()};
  if (const char* path = getenv("PATH"); path != nullptr) {
    for (absl::string_view folder : absl::StrSplit(path, ':')) {
      folders.emplace_back(folder);
    }
  }
  for (const std::string& folder : folders) {
    const std::string program = absl::StrCat(folder, "/", kProgram);
    if (access(program.c_str(), X_OK) == 0) return program;
  }
  return absl::NotFoundError(absl::StrCat(
      kProgram,
      " is neither beside this program nor on PATH; it is installed "
      "with cairn-evaluate and cairn-worker"));
}

// Classes whose ids are those of sentencepiece.
bool HasIdsOfSentencepiece(absl::string_view tokenizer_class) {
  constexpr std::array<absl::string_view, 3> kClasses = {
      "GemmaTokenizer", "LlamaTokenizer", "T5Tokenizer"};
  return std::any_of(kClasses.begin(), kClasses.end(),
                     [&](absl::string_view name) {
                       return tokenizer_class == name ||
                              tokenizer_class == absl::StrCat(name, "Fast");
                     });
}

// A new folder that goes with this.
class WorkFolder {
 public:
  static absl::StatusOr<WorkFolder> Make() {
    std::error_code error;
    std::string path = (fs::temp_directory_path(error) / "cairn-XXXXXX");
    if (error || mkdtemp(path.data()) == nullptr) {
      return SystemError(errno, absl::StrCat("make the folder ", path));
    }
    return WorkFolder(std::move(path));
  }
  WorkFolder(WorkFolder&& other) noexcept
      : path_(std::exchange(other.path_, "")) {}
  ~WorkFolder() {
    std::error_code error;
    if (!path_.empty()) fs::remove_all(path_, error);
  }
  std::string File(const char* name) const { return path_ + "/" + name; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

absl::StatusOr<std::vector<std::vector<int64_t>>> ReadIds(
    const std::string& file, size_t count) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kIdsBytesMax));
  std::vector<std::vector<int64_t>> ids;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const Json json = Json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_array()) break;
    ids.push_back(json.get<std::vector<int64_t>>());
  }
  if (ids.size() == count) return ids;
  return absl::InternalError(absl::StrCat(
      kProgram, " gave ", ids.size(), " lists of ids for ", count, " texts"));
}

}  // namespace

absl::StatusOr<TextEncoder> TextEncoder::Open(const FileMap& model_files) {
  TextEncoder out;
  for (const char* name : {"tokenizer.model", "spiece.model"}) {
    const auto file = model_files.find(name);
    if (file != model_files.end()) out.model_ = file->second;
  }
  if (out.model_ == nullptr) {
    return Unsupported(
        "only tokenizers of sentencepiece are read here, and the model has no "
        "tokenizer.model or spiece.model");
  }
  Json config;
  if (const auto file = model_files.find(kConfig); file != model_files.end()) {
    CAIRN_ASSIGN_OR_RETURN(const std::string text,
                           ReadAll(*file->second, kFileBytesMax));
    config = Json::parse(text, nullptr, false);
  }
  const std::string kind =
      config.is_object() ? config.value("tokenizer_class", "") : "";
  if (!HasIdsOfSentencepiece(kind)) {
    return Unsupported(absl::StrCat(
        kConfig,
        kind.empty() ? " names no `tokenizer_class`"
                     : absl::StrCat(" names the class ", kind),
        "; the ids of LlamaTokenizer, GemmaTokenizer and T5Tokenizer are those "
        "of sentencepiece"));
  }
  if (const auto added = config.find("added_tokens_decoder");
      added != config.end() && added->is_object()) {
    for (const auto& [id, token] : added->items()) {
      if (token.is_object()) out.added_.push_back(token.value("content", ""));
    }
  }
  std::erase(out.added_, "");
  CAIRN_ASSIGN_OR_RETURN(out.program_, FindProgram());
  return out;
}

absl::StatusOr<std::vector<std::vector<int64_t>>> TextEncoder::Encode(
    const std::vector<std::string>& texts) const {
  std::string lines;
  for (const std::string& text : texts) {
    for (const std::string& token : added_) {
      if (!absl::StrContains(text, token)) continue;
      return Unsupported(absl::StrCat("a text holds ", token,
                                      ", a token that was added to the "
                                      "vocabulary"));
    }
    if (!text.empty() &&
        absl::ascii_isspace(static_cast<unsigned char>(text[0]))) {
      return Unsupported("a text begins with white space");
    }
    absl::StrAppend(
        &lines, Json(text).dump(-1, ' ', false, Json::error_handler_t::replace),
        "\n");
  }
  CAIRN_ASSIGN_OR_RETURN(const WorkFolder folder, WorkFolder::Make());
  CAIRN_ASSIGN_OR_RETURN(const std::string model,
                         ReadAll(*model_, kFileBytesMax));
  CAIRN_RETURN_IF_ERROR(WriteFile(folder.File("model"), model));
  CAIRN_RETURN_IF_ERROR(WriteFile(folder.File("texts"), lines));
  const absl::Status ran =
      RunJobProcess({program_, folder.File("model"), folder.File("texts"),
                     folder.File("ids")},
                    {.wall_time = absl::Hours(1)}, {});
  if (!ran.ok()) {
    return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                         absl::StrCat("the model's sentencepiece file does not "
                                      "encode: ",
                                      ran.message()));
  }
  return ReadIds(folder.File("ids"), texts.size());
}

}  // namespace cairn
