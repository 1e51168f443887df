// cairn-expand: base + update as a Hugging Face directory.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/checkpoint_delta.h"
#include "merge/cli/local_command.h"
#include "merge/engine/merge_executor.h"
#include "merge/engine/model_identity.h"

namespace cairn {
namespace {

struct Flags : LocalFlags {
  std::string base;
  std::string update;
  std::string out;
  uint64_t memory = uint64_t{2} << 30;
};

// Exact updates carry the tuned values themselves; what others change is added
// in float32 and rounded once.
absl::Status Expand(const Flags& flags, const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint base, OpenLocalCheckpoint(flags.base));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Update> update,
                         OpenLocalUpdate(flags.update, &base));
  CAIRN_ASSIGN_OR_RETURN(ModelIdentity identity,
                         IdentifyModel(base, ThreadsOf(flags)));
  CAIRN_RETURN_IF_ERROR(
      Annotate(CheckAgainstBase(*update, identity.tensors, identity.digest),
               flags.update));
  CAIRN_RETURN_IF_ERROR(Annotate(update->CheckFinite(), flags.update));
  if (update->form() == Update::Form::kReplacement) {
    return ExpandUpdate(base, *update, directory);
  }
  const MergeRequest request = {.head = &base,
                                .head_identity = &identity,
                                .inputs = {{.contribution = flags.update,
                                            .digest = "",
                                            .base_digest = identity.digest,
                                            .update = update.get(),
                                            .base = &base}},
                                .strategy = "task_arithmetic",
                                .parameters = {},
                                .seed = 0,
                                .device_class = ""};
  return MergeIntoDirectory(
             request,
             {.threads = ThreadsOf(flags),
              .memory_bytes = static_cast<int64_t>(flags.memory)},
             directory, flags)
      .status();
}

absl::Status Run(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output,
                         OutputDirectory::Create(flags.out));
  CAIRN_RETURN_IF_ERROR(Expand(flags, output.path()));
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  if (flags.json) {
    std::cout << nlohmann::ordered_json{{"path", flags.out}}.dump(2) << "\n";
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("Applies an update to its base.", "cairn expand");
  Flags flags;
  app.add_option("--base", flags.base, "Hugging Face directory of the base")
      ->required();
  app.add_option("--memory", flags.memory, "memory for buffers, e.g. 2GiB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("2GiB");
  app.add_option("update", flags.update,
                 "Cairn update or PEFT adapter directory")
      ->required();
  app.add_option("out", flags.out, "output directory")->required();
  AddLocalFlags(app, flags);
  app.footer(
      "A sparse or dense update gives the tuned checkpoint back bit for bit.\n"
      "\nExample:\n  cairn expand --base ./base ./update ./tuned\n");
  return RunLocalCommand(app, argc, argv, flags, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
