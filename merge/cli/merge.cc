// cairn-merge: merges models by a recipe, and adapters into their base.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/device_name.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/cli/local_command.h"
#include "merge/cli/merge_record_file.h"
#include "merge/cli/merge_run.h"
#include "merge/cuda/open_device.h"
#include "merge/engine/device_merge.h"
#include "merge/engine/model_source.h"
#include "merge/method/tensor_method.h"
#include "merge/peft/adapter_effects.h"
#include "merge/peft/adapter_export.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kFooter[] =
    "RECIPE is mergekit's YAML. A merged model is a Hugging Face directory\n"
    "with merge-record.json beside its files. Adapters are PEFT directories "
    "or\n"
    "Cairn updates; WEIGHT is a factor on the adapter's change, 1 unless "
    "given.\nWith --as lora the sum of LoRAs becomes one LoRA, exactly unless "
    "--rank\ncuts it or --combine merges it otherwise (what that costs is "
    "told); "
    "with --as ia3 IA3 adapters "
    "are multiplied\ninto one.\nWithout --profile a recipe means what it means "
    "to mergekit, and a "
    "key that is\nnot known is an error instead of being ignored.\n\n"
    "Example:\n"
    "  cairn merge ties.yml ./out --memory 2GiB --seed 7\n"
    "  cairn merge --base ./base --adapter ./code --adapter ./prose:0.5 ./out\n"
    "  cairn merge --base ./base --adapter ./code --adapter ./prose --as lora "
    "--rank 16 ./out\n"
    "  cairn merge replay ./out/merge-record.json ./again\n";

constexpr char kDifferences[] =
    "Where a result may differ from mergekit's:\n"
    "- all arithmetic is float32 and each element is rounded once; mergekit\n"
    "  merges task vectors in the tensors' own type;\n"
    "- of equal magnitudes at a cut, those later in the tensor are kept;\n"
    "  mergekit's choice depends on torch's sort;\n"
    "- random masks come from a counter (Philox4x32-10) keyed by seed, model,\n"
    "  tensor and element, so they depend on neither order nor threads;\n"
    "- arcee_fusion takes exact quartiles; mergekit samples large tensors;\n"
    "- every tensor of the inputs is written, also those that mergekit's\n"
    "  template of the architecture does not name;\n"
    "- the order in which models are listed changes nothing where the method\n"
    "  is symmetric;\n"
    "- tokenizer_source matches tokens by their texts in tokenizer.json. "
    "Those\n"
    "  that the base has not are numbered model after model, by their numbers\n"
    "  there; mergekit's order changes from run to run. Means over the models\n"
    "  that have a token are taken in float32. A model without tokenizer.json\n"
    "  is taken to have the base's tokens, with a warning, as there. Rows "
    "that\n"
    "  pad_to_multiple_of adds are means in double precision;\n"
    "- chat_template: auto takes, of templates that as many models have, the\n"
    "  first in the recipe; those by name are texts of our own, which render\n"
    "  the formats; mergekit's alpaca, exaone and llama3 add white space;\n"
    "- without tokenizer_source the files of the base (or of the first model)\n"
    "  are copied, and vocabularies of different sizes are an error.\n"
    "Where profiles differ (density is always the share that is kept):\n"
    "- ties under paper trims each model as a whole and keeps all that equal\n"
    "  the cut, elects signs by values before their weights, gives a sum of 0\n"
    "  the sign of the majority, and divides by the number that agree;\n"
    "- under peft it trims each tensor, elects by values before their weights\n"
    "  and divides by the number that agree; so do dare_ties, della and\n"
    "  breadcrumbs_ties under paper and peft. normalize says nothing there;\n"
    "- dare_* under paper and peft divide by the density instead of restoring\n"
    "  the sum of magnitudes.\n";

struct Flags : LocalFlags {
  std::string base;
  std::vector<std::string> adapters;
  std::vector<std::string> words;  // [replay RECORD | RECIPE] OUT
  uint64_t memory = uint64_t{2} << 30;
  uint64_t seed = 0;
  std::string profile;
  std::string device = "cpu";
  std::string as = "dense";
  std::optional<int64_t> rank;
  std::string combine = "cat";
  double density = 1;
  std::string majority = "total";
  bool dry_run = false;
  bool explain = false;
};

OutputOptions OptionsOf(const Flags& flags, TileDevice* device) {
  return {.threads = ThreadsOf(flags),
          .memory_bytes = static_cast<int64_t>(flags.memory),
          .device = device};
}

// "DIR[:WEIGHT]": a number after the last colon, unless such a path exists.
absl::StatusOr<MergeOrder::Adapter> ParseAdapter(const std::string& text) {
  const size_t colon = text.rfind(':');
  double weight = 1;
  if (colon == std::string::npos || fs::exists(text)) {
    return MergeOrder::Adapter{text, 1.0};
  }
  const std::string number = text.substr(colon + 1);
  if (!absl::SimpleAtod(number, &weight) || !std::isfinite(weight)) {
    if (!fs::exists(text.substr(0, colon))) {
      return absl::NotFoundError(absl::StrCat(text, " is not there"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--adapter ", text, ": \"", number,
                     "\" is no weight, which is a "
                     "finite number"));
  }
  return MergeOrder::Adapter{text.substr(0, colon), weight};
}

absl::StatusOr<MergeOrder> OrderOf(const Flags& flags) {
  MergeOrder order;
  order.profile = flags.profile;
  order.seed = flags.seed;
  order.directory = fs::current_path();
  if (flags.base.empty()) {
    order.recipe_label = flags.words[0];
    CAIRN_ASSIGN_OR_RETURN(order.recipe, ReadFile(flags.words[0]));
    return order;
  }
  order.base = flags.base;
  for (const std::string& text : flags.adapters) {
    CAIRN_ASSIGN_OR_RETURN(order.adapters.emplace_back(), ParseAdapter(text));
  }
  return order;
}

// A rough guess: what this kind of work reads and writes a second.
double SecondsOf(const OutputCost& cost) {
  constexpr double kReadRate = 4e9, kWriteRate = 0.8e9;
  return static_cast<double>(cost.bytes_read) / kReadRate / cost.threads +
         static_cast<double>(cost.bytes_written) / kWriteRate;
}

void TellPlan(const Flags& flags, const MergeRun& run) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const MergeStage& stage : run.stages()) {
    nlohmann::ordered_json entry;
    entry["name"] = stage.name;
    for (const auto& source : stage.plan.sources) {
      entry["inputs"].push_back(source->label());
    }
    entry["tensors"] = stage.plan.outputs.size();
    entry["bytesRead"] = stage.cost.bytes_read;
    entry["bytesWritten"] = stage.cost.bytes_written;
    entry["peakMemoryBytes"] = stage.cost.memory_bytes;
    entry["threads"] = stage.cost.threads;
    entry["passes"] = stage.cost.passes_max;
    entry["device"] = flags.device;
    entry["deviceTensors"] = stage.cost.device_outputs;
    entry["estimatedSeconds"] = SecondsOf(stage.cost);
    json.push_back(std::move(entry));
  }
  if (flags.json) {
    std::cout << nlohmann::ordered_json{{"stages", json}}.dump(2) << "\n";
    return;
  }
  for (const auto& entry : json) {
    std::cout << absl::StrFormat(
        "%s%d tensors, %.2f GB read, %.2f GB written, %.0f MB of memory on %d "
        "threads, %d passes, about %.0f s%s\n",
        entry["name"].get<std::string>().empty()
            ? ""
            : entry["name"].get<std::string>() + ": ",
        entry["tensors"].get<int64_t>(), entry["bytesRead"].get<double>() / 1e9,
        entry["bytesWritten"].get<double>() / 1e9,
        entry["peakMemoryBytes"].get<double>() / 1e6,
        entry["threads"].get<int>(), entry["passes"].get<int>(),
        entry["estimatedSeconds"].get<double>(),
        flags.device == "cpu"
            ? ""
            : absl::StrCat("; ", entry["deviceTensors"].get<int64_t>(),
                           " tensors on ", flags.device));
  }
}

// What each tensor is made of, and with which parameters.
void Explain(const Flags& flags, const MergeRun& run) {
  for (const MergeStage& stage : run.stages()) {
    for (const PlannedOutput& output : stage.plan.outputs) {
      std::cout << output.name << " " << DTypeName(output.dtype)
                << ShapeText(output.shape) << ": "
                << (output.method == nullptr ? "copy" : output.method->name);
      for (const auto& [name, value] : output.task.parameters) {
        std::cout << " " << name << "=" << value;
      }
      if (flags.device != "cpu" && IsForDevice(output)) {
        std::cout << " on " << flags.device;
      }
      std::cout << "\n";
      for (size_t i = 0; i < output.inputs.size(); ++i) {
        std::cout << "  "
                  << stage.plan.sources[output.inputs[i].source]->label() << " "
                  << output.inputs[i].tensor
                  << (output.task.base == i ? " (base)" : "");
        if (i < output.task.inputs.size()) {
          for (const auto& [name, value] : output.task.inputs[i].parameters) {
            std::cout << " " << name << "=" << value;
          }
        }
        std::cout << "\n";
      }
    }
  }
  std::cout << kDifferences;
}

void Tell(const Flags& flags, const MergeRecordFile& record,
          const std::string& out) {
  if (flags.json) {
    nlohmann::ordered_json json;
    json["path"] = out;
    json["digest"] = record.digest;
    json["tensors"] = record.tensors.size();
    std::cout << json.dump(2) << "\n";
  } else if (!flags.quiet) {
    std::cout << out << ": " << record.tensors.size() << " tensors, digest "
              << record.digest << "\n";
  }
}

absl::Status Replay(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(const MergeRecordFile file,
                         MergeRecordFile::Read(flags.words[1]));
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<TileDevice> device,
                         OpenTileDevice(flags.device));
  CAIRN_ASSIGN_OR_RETURN(
      MergeRun run, MergeRun::Plan(file.order, OptionsOf(flags, device.get())));
  CAIRN_ASSIGN_OR_RETURN(const MergeRecordFile record,
                         run.Execute(flags.words[2], flags, &file));
  Tell(flags, record, flags.words[2]);
  return absl::OkStatus();
}

absl::Status Merge(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(MergeOrder order, OrderOf(flags));
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<TileDevice> device,
                         OpenTileDevice(flags.device));
  CAIRN_ASSIGN_OR_RETURN(
      MergeRun run,
      MergeRun::Plan(std::move(order), OptionsOf(flags, device.get())));
  for (const std::string& warning : run.warnings()) {
    if (!flags.quiet) std::cerr << "cairn merge: " << warning << "\n";
  }
  if (flags.explain) Explain(flags, run);
  if (flags.dry_run) TellPlan(flags, run);
  if (flags.explain || flags.dry_run) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(const MergeRecordFile record,
                         run.Execute(flags.words.back(), flags, nullptr));
  Tell(flags, record, flags.words.back());
  return absl::OkStatus();
}

void TellExported(const Flags& flags, const ExportedAdapter& exported) {
  if (flags.json) {
    nlohmann::ordered_json json;
    json["path"] = flags.words.back();
    json["residual"] = exported.residual;
    for (const ExportedAdapter::Module& module : exported.modules) {
      json["modules"].push_back({{"name", module.name},
                                 {"rank", module.rank},
                                 {"residual", module.residual}});
    }
    std::cout << json.dump(2) << "\n";
    return;
  }
  if (flags.quiet) return;
  std::cout << flags.words.back() << ": " << exported.modules.size()
            << " modules";
  if (flags.rank || flags.combine != "cat") {
    const auto worst = std::max_element(
        exported.modules.begin(), exported.modules.end(),
        [](const auto& a, const auto& b) { return a.residual < b.residual; });
    std::cout << absl::StrFormat(
        ", by %s%s; %.3g of the sum is lost, most of %s (%.3g)", flags.combine,
        flags.rank ? absl::StrCat(" cut to rank ", *flags.rank) : "",
        exported.residual, worst->name, worst->residual);
  }
  std::cout << "\n";
}

LoraCombination CombinationOf(const Flags& flags) {
  LoraCombination combination = *LoraCombination::Parse(flags.combine);
  combination.density = flags.density;
  combination.seed = flags.seed;
  if (flags.majority == "frequency") {
    combination.majority = LoraCombination::Majority::kFrequency;
  }
  return combination;
}

// Merges adapters into one adapter.
absl::Status Export(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(const MergeOrder order, OrderOf(flags));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint opened, OpenLocalCheckpoint(order.base));
  CAIRN_ASSIGN_OR_RETURN(
      const ModelSource base,
      ModelSource::Open(order.base,
                        std::make_shared<Checkpoint>(std::move(opened))));
  std::vector<WeightedAdapter> adapters;
  for (const MergeOrder::Adapter& adapter : order.adapters) {
    adapters.push_back({adapter.path, adapter.weight});
    // Whether it fits the base.
    CAIRN_RETURN_IF_ERROR(
        OpenAdapters(base, {{.directory = adapter.path, .weight = 1.0}})
            .status());
  }
  CAIRN_ASSIGN_OR_RETURN(OutputDirectory output,
                         OutputDirectory::Create(flags.words.back()));
  CAIRN_ASSIGN_OR_RETURN(const ExportedAdapter exported,
                         flags.as == "ia3"
                             ? ExportIa3(adapters, output.path())
                             : ExportLora(adapters, CombinationOf(flags),
                                          flags.rank, output.path()));
  CAIRN_RETURN_IF_ERROR(std::move(output).Publish());
  TellExported(flags, exported);
  return absl::OkStatus();
}

void CheckUsage(const Flags& flags) {
  if (const absl::Status device = ParseDeviceName(flags.device).status();
      !device.ok()) {
    throw CLI::ValidationError(
        absl::StrCat("--device: ", std::string(device.message())));
  }
  if (flags.base.empty() != flags.adapters.empty()) {
    throw CLI::ValidationError("--base and --adapter go together");
  }
  if (flags.as != "dense" && flags.base.empty()) {
    throw CLI::ValidationError("--as goes with --base and --adapter");
  }
  if (flags.as != "lora" && (flags.rank || flags.combine != "cat" ||
                             flags.density != 1 || flags.majority != "total")) {
    throw CLI::ValidationError(
        "--rank, --combine, --density and --majority go with --as lora");
  }
  if (flags.as != "dense" && (flags.dry_run || flags.explain)) {
    throw CLI::ValidationError("--dry-run and --explain plan dense models");
  }
  const bool is_replay = flags.words.size() == 3 && flags.words[0] == "replay";
  const size_t wanted = flags.base.empty() ? 2 : 1;
  if (is_replay ? !flags.base.empty() : flags.words.size() != wanted) {
    throw CLI::ValidationError(
        "give a recipe and an output directory; or --base, --adapter and an "
        "output directory; or: replay RECORD OUT");
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Merges models by a recipe, and adapters into their base.",
               "cairn merge");
  Flags flags;
  app.add_option("--base", flags.base, "Hugging Face directory of the base");
  app.add_option("--adapter", flags.adapters,
                 "adapter or update directory, DIR[:WEIGHT]; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--memory", flags.memory, "memory for buffers, e.g. 2GiB")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("2GiB");
  app.add_option("--device", flags.device,
                 "what merges large tensors: cpu, cuda or cuda:N; the bytes "
                 "are the same")
      ->capture_default_str();
  app.add_option("--seed", flags.seed, "seed of random masks; default 0");
  app.add_option("--profile", flags.profile,
                 "whose meaning a recipe has where tools differ")
      ->check(CLI::IsMember({"mergekit", "paper", "peft"}));
  app.add_option("--as", flags.as, "what adapters are merged to")
      ->check(CLI::IsMember({"dense", "lora", "ia3"}))
      ->default_str("dense");
  app.add_option("--rank", flags.rank,
                 "largest rank of the LoRA; default: that of the exact sum")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app.add_option("--combine", flags.combine,
                 "how LoRAs become one, as in peft's add_weighted_adapter")
      ->check(CLI::IsMember(LoraCombination::Names()))
      ->capture_default_str();
  app.add_option("--density", flags.density,
                 "share of the elements that ties, dare_* and "
                 "magnitude_prune keep")
      ->check(CLI::Range(0.0, 1.0))
      ->default_str("1");
  app.add_option("--majority", flags.majority,
                 "what ties elects signs by: total or frequency")
      ->check(CLI::IsMember({"total", "frequency"}))
      ->capture_default_str();
  app.add_flag("--dry-run", flags.dry_run,
               "tell inputs, bytes, memory and time; write nothing");
  app.add_flag("--explain", flags.explain,
               "tell what each tensor is made of; write nothing");
  app.add_option("words", flags.words, "[RECIPE] OUT, or: replay RECORD OUT")
      ->required();
  AddLocalFlags(app, flags);
  app.footer(kFooter);
  app.callback([&] { CheckUsage(flags); });
  return RunLocalCommand(app, argc, argv, flags, [&] {
    const bool is_replay = flags.words.size() == 3;
    if (is_replay) return Replay(flags);
    return flags.as == "dense" ? Merge(flags) : Export(flags);
  });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
