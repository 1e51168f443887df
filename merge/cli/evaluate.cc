// cairn-evaluate: scores a model on a suite, without a hub.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/cli/command_output.h"
#include "merge/cli/sandboxed_run.h"
#include "merge/engine/model_source.h"
#include "merge/eval/apply_update.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/report_json.h"
#include "merge/model/load_model.h"
#include "merge/model/parameter_patch.h"
#include "merge/peft/adapter_effects.h"
#include "merge/tensor/compute.h"

namespace cairn {
namespace {

constexpr char kCommand[] = "cairn evaluate";

constexpr char kFooter[] = R"(
The model is a Hugging Face directory, the suite a directory with suite.yaml and JSONL files of token ids. An adapter is
a PEFT directory (LoRA in all its kinds, IA3) or a Cairn update; given several times, each is scored on the base, which is loaded once. A score
depends on the model and the item alone: not on --batch or --threads.

Example:
  cairn evaluate --model ./tiny-llama --suite ./suites/perl --split audit
  cairn evaluate --model ./tiny-llama --adapter ./perl-lora --suite ./suites/perl --json --per-item rows.jsonl

Exit codes: 0 done, 1 whole but not for us or for each other, 2 usage, 3 something named is not there, 5 an update of
another base, 7 broken in itself.)";

struct Flags {
  std::string model;
  std::vector<std::string> adapters;
  std::string suite;
  std::string split;
  std::string per_item;
  int batch = 8;
  int threads = AvailableProcessors();
  std::string dtype = "float32";
  std::string device = "cpu";
  bool json = false;
  bool torchscript = false;
  std::string sandbox;
  bool quiet = false;
  bool no_progress = false;
  std::string color = "auto";
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--model", flags.model, "Hugging Face directory")
      ->required()
      ->type_name("DIR");
  app.add_option(
         "--adapter", flags.adapters,
         "PEFT adapter or Cairn update to score on the model; repeat it")
      ->type_name("DIR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--suite", flags.suite, "directory with suite.yaml")
      ->required()
      ->type_name("DIR");
  app.add_option("--split", flags.split,
                 "split to score (default: the only one, else search)")
      ->type_name("NAME");
  app.add_option("--per-item", flags.per_item, "write a line an item here")
      ->type_name("FILE");
  app.add_option("--batch", flags.batch,
                 "most items in work at a time; changes no score")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--threads", flags.threads, "items scored side by side")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--dtype", flags.dtype, "arithmetic: float32 or bfloat16")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--device", flags.device, "cpu or cuda:N")
      ->capture_default_str();
  app.add_flag("--torchscript", flags.torchscript,
               "run the model's torchscript.pt where its architecture is not "
               "known; it is code, and runs in a sandbox");
  app.add_option("--in-sandbox", flags.sandbox)->group("");
  app.add_flag("--json", flags.json, "the report as JSON on stdout");
  app.add_flag("--quiet", flags.quiet, "no messages but errors");
  app.add_flag("--no-progress", flags.no_progress);
  app.add_option("--color", flags.color)
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

// A directory on this machine is not a request: what is malformed in it, or
// not finite, is damaged.
absl::Status AboutAdapter(const absl::Status& status,
                          const std::string& adapter) {
  const std::optional<ErrorReason> reason = GetReason(status);
  const bool is_damage =
      reason.has_value() && status.code() != absl::StatusCode::kNotFound &&
      (reason->code == "MALFORMED_FILE" || reason->code == "NON_FINITE");
  const std::string doing = absl::StrCat("scoring with adapter ", adapter);
  if (!is_damage) return Annotate(status, doing);
  return ReasonedError(absl::StatusCode::kDataLoss, reason->code,
                       absl::StrCat(doing, ": ", status.message()),
                       reason->details);
}

// A model and a suite, loaded once and scored as they are or with adapters.
class Evaluation {
 public:
  static absl::StatusOr<std::unique_ptr<Evaluation>> Open(const Flags& flags) {
    auto out = std::unique_ptr<Evaluation>(new Evaluation(flags));
    CAIRN_RETURN_IF_ERROR(out->Load());
    return out;
  }

  absl::StatusOr<std::vector<AdapterReport>> Run() {
    std::vector<AdapterReport> reports;
    if (flags_.adapters.empty()) {
      CAIRN_ASSIGN_OR_RETURN(reports.emplace_back().report, Score());
      return reports;
    }
    const bool is_labelled = flags_.adapters.size() > 1;
    if (is_labelled) {
      CAIRN_RETURN_IF_ERROR(ShareWhatNoneChanges());
    }
    for (const std::string& adapter : flags_.adapters) {
      absl::StatusOr<SplitReport> report = ScoreAdapter(adapter);
      if (!report.ok()) return AboutAdapter(report.status(), adapter);
      reports.push_back({is_labelled ? adapter : "", *std::move(report)});
    }
    return reports;
  }

 private:
  explicit Evaluation(const Flags& flags) : flags_(flags) {}

  absl::Status Load() {
    CAIRN_ASSIGN_OR_RETURN(suite_, Suite::OpenDirectory(flags_.suite));
    CAIRN_ASSIGN_OR_RETURN(split_,
                           suite_.description.ChooseSplit(flags_.split));
    LoadOptions options{.threads = flags_.threads};
    CAIRN_ASSIGN_OR_RETURN(options.dtype, ParseArithmetic(flags_.dtype));
    CAIRN_ASSIGN_OR_RETURN(options.device, ParseDevice(flags_.device));
    if (flags_.torchscript) options.torch_script = TorchScript::kRun;
    CAIRN_ASSIGN_OR_RETURN(Checkpoint base, OpenModelDirectory(flags_.model));
    CAIRN_ASSIGN_OR_RETURN(model_, LoadModel(base, options));
    CAIRN_ASSIGN_OR_RETURN(
        base_, ModelSource::Open(flags_.model, std::make_shared<Checkpoint>(
                                                   std::move(base))));
    CAIRN_ASSIGN_OR_RETURN(
        task_, OpenTask(suite_, split_, *model_, base_.checkpoint()->files()));
    return absl::OkStatus();
  }

  absl::StatusOr<SplitReport> Score() const {
    ProgressLine line("items", !flags_.quiet && !flags_.no_progress);
    const EvaluateOptions options = {
        .threads = std::min(flags_.threads, flags_.batch),
        .progress = [&line](int64_t done, int64_t total) {
          line.Show(done, total);
        }};
    return EvaluateTask(*model_, suite_, split_, *task_, options);
  }

  // Opens every adapter once before the first is scored, and none for longer,
  // so that any number of them stays below the limit of open files.
  absl::Status ShareWhatNoneChanges() {
    std::set<std::string> changed;
    for (const std::string& adapter : flags_.adapters) {
      const auto adapted = OpenAdapters(base_, {{.directory = adapter}});
      if (!adapted.ok()) return AboutAdapter(adapted.status(), adapter);
      for (const auto& [name, effect] : adapted->effects.effects) {
        changed.insert(name);
      }
    }
    model_->ShareLayers(model_->LayersBefore({changed.begin(), changed.end()}));
    return absl::OkStatus();
  }

  absl::StatusOr<SplitReport> ScoreAdapter(const std::string& directory) {
    CAIRN_ASSIGN_OR_RETURN(const AdaptedModel adapted,
                           OpenAdapters(base_, {{.directory = directory}}));
    ParameterPatch patch(*model_);
    CAIRN_RETURN_IF_ERROR(ApplyEffects(adapted.effects, *base_.checkpoint(),
                                       flags_.threads, patch));
    return Score();
  }

  const Flags& flags_;
  Suite suite_;
  std::string split_;
  ModelSource base_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Task> task_;
};

void PrintText(const std::vector<AdapterReport>& reports) {
  for (const auto& [adapter, report] : reports) {
    if (!adapter.empty()) std::cout << adapter << ": ";
    std::cout << absl::StrFormat(
        "%s/%s: %s %.6g (%d items, %d tokens)\n", report.suite, report.split,
        report.metric, report.value, report.items.size(), report.tokens);
  }
}

absl::Status Evaluate(const Flags& flags) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Evaluation> evaluation,
                         Evaluation::Open(flags));
  CAIRN_ASSIGN_OR_RETURN(const std::vector<AdapterReport> reports,
                         evaluation->Run());
  if (!flags.per_item.empty()) {
    CAIRN_RETURN_IF_ERROR(WriteFile(flags.per_item, RowsJson(reports)));
  }
  if (flags.json) {
    std::cout << ReportsJson(reports);
  } else {
    PrintText(reports);
  }
  return absl::OkStatus();
}

// Wrong flags that only the machine or the suite can tell.
absl::Status CheckUsage(const Flags& flags) {
  if (absl::StatusOr<at::Device> device = ParseDevice(flags.device);
      !device.ok()) {
    return Annotate(device.status(), "--device");
  }
  const absl::StatusOr<Suite> suite = Suite::OpenDirectory(flags.suite);
  if (!suite.ok() || flags.split.empty()) return absl::OkStatus();
  return Annotate(suite->description.ChooseSplit(flags.split).status(),
                  "--split");
}

int Run(const Flags& flags) {
  InitCompute();
  if (absl::Status usage = CheckUsage(flags); !usage.ok()) {
    Fail(kCommand, usage, flags.json);
    return kUsageExit;
  }
  WarnIfMatrixProductsAreSlow();
  const absl::Status done = Evaluate(flags);
  return done.ok() ? 0 : Fail(kCommand, done, flags.json);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Scores a model on a suite, without a hub", kCommand);
  app.footer(kFooter);
  AddFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExit;
  }
  if (!flags.torchscript) return Run(flags);
  if (flags.sandbox.empty()) {
    return RunInSandbox(kCommand, argc, argv, flags.json);
  }
  return RunAsSandboxed(flags.sandbox, [&] { return Run(flags); });
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
