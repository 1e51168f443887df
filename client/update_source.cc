#include "client/update_source.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/update/update.h"

namespace cairn {
namespace {

constexpr int64_t kConfigBytesMax = 16 << 20;

// A string of a JSON object; empty when there is none. Whether the file is
// well-formed is checked where it matters.
std::string StringAt(const SharedSource& source, const char* key) {
  auto text = ReadAll(*source, kConfigBytesMax);
  if (!text.ok()) return "";
  auto json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) return "";
  auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>()
                                                   : "";
}

bool HasSafetensors(const FileMap& files) {
  for (const auto& [path, source] : files) {
    if (absl::EndsWith(path, ".safetensors") && !absl::StrContains(path, '/')) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<UpdateSource::Kind> KindOf(const std::string& path,
                                          const FileMap& files) {
  if (files.contains(kUpdateFile)) return UpdateSource::Kind::kCairn;
  if (files.contains(kAdapterConfigFile)) {
    if (!files.contains(kAdapterWeightsFile) &&
        files.contains("adapter_model.bin")) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
          absl::StrCat(path,
                       "/adapter_model.bin is a pickle, which can hold code; "
                       "save the adapter with safe_serialization=True"),
          {{"file", "adapter_model.bin"}});
    }
    return UpdateSource::Kind::kPeft;
  }
  if (HasSafetensors(files)) return UpdateSource::Kind::kCheckpoint;
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "UNKNOWN_FORMAT",
      absl::StrCat(path, " holds no update: expected ", kAdapterConfigFile,
                   " with ", kAdapterWeightsFile, " (PEFT), ", kUpdateFile,
                   " (cairn compress), or a checkpoint's *.safetensors"),
      {{"file", path}});
}

bool IsTaken(UpdateSource::Kind kind, const std::string& path) {
  if (kind == UpdateSource::Kind::kCheckpoint) {
    return path != kReleaseDocumentFile && path != kTorchScriptFile &&
           CheckReleaseFile(path).ok();
  }
  return IsUpdateFile(path);
}

}  // namespace

absl::StatusOr<UpdateSource> OpenUpdateSource(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is nothing"));
  }
  UpdateSource out;
  out.directory = path;
  if (!fs::is_directory(path, error)) {
    if (fs::path(path).filename() != kUpdateFile) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "UNKNOWN_FORMAT",
          absl::StrCat(path, " is a file; give the directory that holds it"),
          {{"file", path}});
    }
    out.directory = fs::path(path).parent_path().string();
    if (out.directory.empty()) out.directory = ".";
  }
  CAIRN_ASSIGN_OR_RETURN(FileMap all, OpenDirectorySources(out.directory));
  CAIRN_ASSIGN_OR_RETURN(out.kind, KindOf(out.directory, all));
  for (auto& [name, source] : all) {
    if (IsTaken(out.kind, name)) {
      out.files.emplace(name, std::move(source));
    } else {
      out.left_out.push_back(name);
    }
  }
  if (auto found = out.files.find(kAdapterConfigFile);
      found != out.files.end()) {
    out.base_path = StringAt(found->second, "base_model_name_or_path");
    out.base_revision = StringAt(found->second, "revision");
  } else if (auto config = out.files.find("config.json");
             config != out.files.end()) {
    out.base_path = StringAt(config->second, "_name_or_path");
  }
  return out;
}

}  // namespace cairn
