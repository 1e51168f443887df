// cairn-merge: merges adapters into their base, and repeats a merge.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/manifest.h"
#include "merge/cli/local_command.h"
#include "merge/cli/merge_record_file.h"
#include "merge/engine/merge_executor.h"
#include "merge/engine/model_identity.h"

namespace cairn {
namespace {

constexpr char kRecordFile[] = "merge-record.json";
constexpr char kFooter[] =
    "A merged model is a Hugging Face directory with merge-record.json beside\n"
    "its files. Adapters are PEFT LoRAs or Cairn updates; WEIGHT is a factor\n"
    "on the adapter's change, 1 unless given.\n\n"
    "Example:\n"
    "  cairn merge --base ./base --adapter ./code --adapter ./prose:0.5 ./out\n"
    "  cairn merge replay ./out/merge-record.json ./again\n";

struct Flags : LocalFlags {
  std::string base;
  std::vector<std::string> adapters;
  std::vector<std::string> words;  // [replay RECORD | RECIPE] OUT
  uint64_t memory = uint64_t{2} << 30;
};

// What a merge was asked to be, by flags or by a record.
struct Wanted {
  std::string base;
  std::vector<MergeRecordFile::Adapter> adapters;
  std::string strategy = "task_arithmetic";
  std::map<std::string, std::string> parameters;
};

// "DIR[:WEIGHT]": a number after the last colon, unless such a path exists.
MergeRecordFile::Adapter ParseAdapter(const std::string& text) {
  const size_t colon = text.rfind(':');
  double weight = 1;
  if (colon != std::string::npos && !std::filesystem::exists(text) &&
      absl::SimpleAtod(text.substr(colon + 1), &weight)) {
    return {text.substr(0, colon), weight};
  }
  return {text, 1.0};
}

absl::StatusOr<MergeOutcome> Merge(const Wanted& wanted, const Flags& flags,
                                   const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint base, OpenLocalCheckpoint(wanted.base));
  CAIRN_ASSIGN_OR_RETURN(ModelIdentity identity,
                         IdentifyModel(base, ThreadsOf(flags)));
  std::vector<std::unique_ptr<Update>> updates;
  std::vector<MergeInput> inputs;
  for (const MergeRecordFile::Adapter& adapter : wanted.adapters) {
    CAIRN_ASSIGN_OR_RETURN(updates.emplace_back(),
                           OpenLocalUpdate(adapter.path));
    const Update& update = *updates.back();
    CAIRN_RETURN_IF_ERROR(
        Annotate(CheckAgainstBase(update, identity.tensors, identity.digest),
                 adapter.path));
    CAIRN_RETURN_IF_ERROR(Annotate(update.CheckFinite(), adapter.path));
    CAIRN_ASSIGN_OR_RETURN(FileMap files, OpenDirectorySources(adapter.path));
    CAIRN_ASSIGN_OR_RETURN(std::vector<v1::File> described,
                           DescribeUpdateFiles(files));
    inputs.push_back({.contribution = adapter.path,
                      .digest = UpdateDigest(described),
                      .base_digest = identity.digest,
                      .update = &update,
                      .base = &base,
                      .weight = adapter.weight});
  }
  const MergeRequest request = {.head = &base,
                                .head_identity = &identity,
                                .inputs = std::move(inputs),
                                .strategy = wanted.strategy,
                                .parameters = wanted.parameters,
                                .seed = 0,
                                .device_class = ""};
  return MergeIntoDirectory(
      request,
      {.threads = ThreadsOf(flags),
       .memory_bytes = static_cast<int64_t>(flags.memory)},
      directory, flags);
}

void Tell(const Flags& flags, const MergeOutcome& outcome,
          const std::string& out) {
  if (flags.json) {
    nlohmann::ordered_json json;
    json["path"] = out;
    json["digest"] = outcome.digest;
    json["changedTensors"] = outcome.changed.size();
    std::cout << json.dump(2) << "\n";
  } else if (!flags.quiet) {
    std::cout << out << ": " << outcome.changed.size()
              << " tensors changed, digest " << outcome.digest << "\n";
  }
}

absl::Status MergeAdapters(const Flags& flags) {
  const std::string& out = flags.words[0];
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output, OutputDirectory::Create(out));
  Wanted wanted = {.base = std::filesystem::absolute(flags.base),
                   .adapters = {},
                   .parameters = {}};
  for (const std::string& text : flags.adapters) {
    MergeRecordFile::Adapter adapter = ParseAdapter(text);
    adapter.path = std::filesystem::absolute(adapter.path);
    wanted.adapters.push_back(std::move(adapter));
  }
  CAIRN_ASSIGN_OR_RETURN(MergeOutcome outcome,
                         Merge(wanted, flags, output.path()));
  const MergeRecordFile file = {.base = wanted.base,
                                .adapters = wanted.adapters,
                                .record = outcome.record};
  CAIRN_RETURN_IF_ERROR(
      file.Write(absl::StrCat(output.path(), "/", kRecordFile)));
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  Tell(flags, outcome, out);
  return absl::OkStatus();
}

absl::Status CheckReplayed(const v1::MergeRecord& wanted,
                           const v1::MergeRecord& got) {
  if (wanted.head_digest() != got.head_digest()) {
    return absl::DataLossError(
        absl::StrCat("the base has changed: its digest is ", got.head_digest(),
                     " and was ", wanted.head_digest()));
  }
  for (int i = 0; i < wanted.inputs_size(); ++i) {
    if (i >= got.inputs_size() ||
        wanted.inputs(i).digest() != got.inputs(i).digest()) {
      return absl::DataLossError(absl::StrCat(wanted.inputs(i).contribution(),
                                              " has changed: its digest was ",
                                              wanted.inputs(i).digest()));
    }
  }
  if (wanted.digest() != got.digest()) {
    return absl::DataLossError(absl::StrCat("the merge gave ", got.digest(),
                                            " and was ", wanted.digest()));
  }
  return absl::OkStatus();
}

absl::Status Replay(const Flags& flags) {
  const std::string& out = flags.words[2];
  CAIRN_ASSIGN_OR_RETURN(MergeRecordFile file,
                         MergeRecordFile::Read(flags.words[1]));
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output, OutputDirectory::Create(out));
  const Wanted wanted = {.base = file.base,
                         .adapters = file.adapters,
                         .strategy = file.record.strategy(),
                         .parameters = {file.record.parameters().begin(),
                                        file.record.parameters().end()}};
  CAIRN_ASSIGN_OR_RETURN(MergeOutcome outcome,
                         Merge(wanted, flags, output.path()));
  CAIRN_RETURN_IF_ERROR(CheckReplayed(file.record, outcome.record));
  CAIRN_RETURN_IF_ERROR(
      file.Write(absl::StrCat(output.path(), "/", kRecordFile)));
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  Tell(flags, outcome, out);
  return absl::OkStatus();
}

absl::Status Run(const Flags& flags) {
  if (flags.words.size() == 3 && flags.words[0] == "replay" &&
      flags.adapters.empty()) {
    return Replay(flags);
  }
  if (flags.base.empty() && flags.adapters.empty()) {
    return absl::UnimplementedError(
        "merging by a mergekit recipe is not built yet: UNIMPLEMENTED; merge "
        "adapters with --base DIR --adapter DIR OUT");
  }
  return MergeAdapters(flags);
}

int Main(int argc, char** argv) {
  CLI::App app("Merges adapters and updates into their base.", "cairn merge");
  Flags flags;
  app.add_option("--base", flags.base, "Hugging Face directory of the base");
  app.add_option("--adapter", flags.adapters,
                 "adapter or update directory, DIR[:WEIGHT]; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--memory", flags.memory, "memory for buffers, e.g. 2GiB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("2GiB");
  app.add_option("words", flags.words, "OUT, or: replay RECORD OUT")
      ->required();
  AddLocalFlags(app, flags);
  app.footer(kFooter);
  app.callback([&] {
    const bool is_adapter_merge =
        !flags.base.empty() && !flags.adapters.empty();
    const bool has_neither = flags.base.empty() && flags.adapters.empty();
    if (!is_adapter_merge && !has_neither) {
      throw CLI::ValidationError("--base and --adapter go together");
    }
    if (flags.words.size() != 1 && is_adapter_merge) {
      throw CLI::ValidationError("give one output directory");
    }
  });
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
