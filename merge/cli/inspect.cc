// cairn-inspect: what a checkpoint, adapter or update holds, from its headers.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/cli/local_command.h"

namespace cairn {
namespace {

using Json = nlohmann::ordered_json;

struct Flags : LocalFlags {
  std::string path;
};

Json TensorJson(const TensorSpec& tensor) {
  return {{"name", tensor.name},
          {"dtype", std::string(DTypeName(tensor.dtype))},
          {"shape", tensor.shape},
          {"sizeBytes", std::to_string(tensor.size_bytes())}};
}

absl::StatusOr<Json> InspectFile(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source,
                         OpenFileSource(path));
  auto header = SafetensorsHeader::Read(*source, path);
  if (!header.ok()) return LocalFault(header.status());
  Json json = {{"kind", "safetensors"},
               {"path", path},
               {"metadata", header->metadata()},
               {"tensors", Json::array()}};
  for (const TensorEntry& tensor : header->tensors()) {
    json["tensors"].push_back(TensorJson(tensor));
  }
  return json;
}

absl::StatusOr<Json> InspectUpdate(const std::string& path) {
  auto opened = OpenLocalUpdate(path);
  // An adapter that says what it changes with its base alone.
  if (absl::IsFailedPrecondition(opened.status())) {
    return InspectFile(path + "/" + kAdapterWeightsFile);
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Update> update, std::move(opened));
  Json json = {{"kind", "update"},
               {"path", path},
               {"encoding", v1::Encoding::Kind_Name(update->encoding())},
               {"baseDigest", update->base_digest()},
               {"tensors", Json::array()}};
  for (const TouchedTensor& tensor : update->touched()) {
    Json entry = {
        {"name", tensor.name},
        {"dtype",
         tensor.dtype.has_value() ? std::string(DTypeName(*tensor.dtype)) : ""},
        {"shape", tensor.shape}};
    const std::string kept = update->Describe(tensor.name);
    if (!kept.empty()) entry["kept"] = kept;
    json["tensors"].push_back(std::move(entry));
  }
  return json;
}

absl::StatusOr<Json> InspectCheckpoint(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenLocalCheckpoint(path));
  Json json = {{"kind", "checkpoint"},
               {"path", path},
               {"sizeBytes", std::to_string(checkpoint.tensor_bytes())},
               {"tensors", Json::array()}};
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    Json entry = TensorJson(tensor);
    entry["file"] = tensor.file;
    json["tensors"].push_back(std::move(entry));
  }
  return json;
}

absl::StatusOr<Json> Inspect(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) return InspectFile(path);
  const bool is_update =
      std::filesystem::exists(path + "/" + kAdapterConfigFile, error) ||
      std::filesystem::exists(path + "/" + kUpdateFile, error);
  return is_update ? InspectUpdate(path) : InspectCheckpoint(path);
}

void Print(const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_string()) {
      std::cout << absl::StrFormat("%-12s %s\n", key, value.get<std::string>());
    }
  }
  for (const Json& tensor : json["tensors"]) {
    std::cout << absl::StrFormat(
        "%-60s %-5s %-16s %s\n", tensor["name"].get<std::string>(),
        tensor["dtype"].get<std::string>(), tensor["shape"].dump(),
        tensor.value("kept", ""));
  }
}

absl::Status Run(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(Json json, Inspect(flags.path));
  if (flags.json) {
    std::cout << json.dump(2) << "\n";
  } else {
    Print(json);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("Shows what a checkpoint, adapter or update holds.",
               "cairn inspect");
  Flags flags;
  app.add_option("path", flags.path, "directory, or a safetensors file")
      ->required();
  AddLocalFlags(app, flags);
  app.footer("Example:\n  cairn inspect ./update\n");
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
