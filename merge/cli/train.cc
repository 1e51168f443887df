// cairn-train: deterministic training without a hub.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "merge/cli/command_output.h"
#include "merge/tensor/compute.h"
#include "merge/train/training_run.h"

namespace cairn {
namespace {

constexpr char kCommand[] = "cairn train";
constexpr char kFooter[] = R"(
Data files are token ids: FILE.jsonl holds {"input_ids": [...]} lines, FILE.u16 and FILE.u32 little-endian ids; any other
file is bytes, each its own token. OUT is a PEFT directory (lora), a directory with cairn-update.safetensors (sparse) or a
Hugging Face directory (full), with recipe.json for `cairn push --recipe`. The same command on the same machine class
gives the same bytes, on any number of threads. Interrupted, it goes on from OUT.partial.

Example:
  cairn train --model ./tiny-llama --data perl.txt --data prose.txt:0.25 --method lora --steps 150 --seed 7 ./perl-lora
  cairn train --init-config config.json --data all.txt --method full --steps 800 --lr 4e-3 --seed 1 ./tiny-llama

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 5 OUT is not empty or OUT.partial is of other flags, 7 damaged input,
130 interrupted.)";

struct Flags {
  TrainRequest request;
  std::vector<std::string> data;
  double checkpoint_seconds = 10;
  bool json = false;
  bool quiet = false;
  bool no_progress = false;
  std::string color = "auto";
};

// FILE or FILE:WEIGHT.
DataFile ParseData(const std::string& text) {
  const size_t colon = text.rfind(':');
  double weight = 0;
  if (colon != std::string::npos &&
      absl::SimpleAtod(text.substr(colon + 1), &weight)) {
    return {text.substr(0, colon), weight};
  }
  return {text, 1};
}

void AddModelFlags(CLI::App& app, Flags& flags) {
  TrainRequest& request = flags.request;
  auto* model = app.add_option("--model", request.model,
                               "Hugging Face directory to start from");
  app.add_option("--init-config", request.init_config,
                 "config.json of a new model to start at random; tokenizer "
                 "files beside it travel along")
      ->excludes(model);
  app.add_option("--data", flags.data,
                 "training text and its share of the windows; repeat it")
      ->required()
      ->allow_extra_args(false)
      ->type_name("FILE[:WEIGHT]");
  const std::map<std::string, TuningMethod> methods = {
      {"lora", TuningMethod::kLora},
      {"sparse", TuningMethod::kSparse},
      {"full", TuningMethod::kFull}};
  app.add_option("--method", request.method, "lora, sparse or full")
      ->required()
      ->transform(CLI::CheckedTransformer(methods))
      ->type_name("METHOD");
  app.add_option("OUT", request.out, "directory to make")->required();
}

void AddTrainingFlags(CLI::App& app, Flags& flags) {
  TrainerOptions& trainer = flags.request.trainer;
  trainer.schedule.steps = 150;
  app.add_option("--seed", trainer.seed, "of windows and initial weights")
      ->capture_default_str();
  app.add_option("--steps", trainer.schedule.steps)
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", trainer.batch, "windows a step")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--window", trainer.window, "tokens a window")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--lr", trainer.schedule.peak, "highest learning rate")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  const std::map<std::string, ScheduleShape> shapes = {
      {"constant", ScheduleShape::kConstant},
      {"linear", ScheduleShape::kLinear},
      {"cosine", ScheduleShape::kCosine}};
  app.add_option("--schedule", trainer.schedule.shape,
                 "constant, linear or cosine (default) after the warm-up")
      ->transform(CLI::CheckedTransformer(shapes))
      ->type_name("SHAPE");
  app.add_option("--warmup", trainer.schedule.warmup, "share of the steps")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--clip", trainer.norm_max,
                 "largest norm of a gradient; 0: none")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--weight-decay", trainer.optimizer.weight_decay)
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--beta1", trainer.optimizer.beta1)
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.9999));
  app.add_option("--beta2", trainer.optimizer.beta2)
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.99999));
}

void AddMethodFlags(CLI::App& app, Flags& flags) {
  TrainRequest& request = flags.request;
  app.add_option("--rank", request.low_rank.rank, "lora: rank")
      ->capture_default_str();
  app.add_option("--alpha", request.low_rank.alpha, "lora: alpha")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--rslora", request.low_rank.rank_stabilised,
               "lora: scale by alpha / sqrt(rank)");
  app.add_option("--target", request.targets,
                 "lora: modules to adapt (default: all linear ones)")
      ->allow_extra_args(false)
      ->type_name("NAME");
  app.add_option("--density", request.density,
                 "sparse: share of the model's parameters to train")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--fisher-batches", request.fisher_batches,
                 "sparse: batches that choose the parameters")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--train-embeddings", request.train_embeddings,
               "sparse: embeddings and head may be chosen as well");
  app.add_option("--tuned", request.tuned_out,
                 "sparse: also write the tuned checkpoint here")
      ->type_name("DIR");
}

void AddRunFlags(CLI::App& app, Flags& flags) {
  flags.request.threads = AvailableProcessors();
  app.add_option("--threads", flags.request.threads)
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--checkpoint-seconds", flags.checkpoint_seconds,
                 "how often the state is saved")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--json", flags.json, "the report as JSON on stdout");
  app.add_flag("--quiet", flags.quiet, "no messages but errors");
  app.add_flag("--no-progress", flags.no_progress);
  app.add_option("--color", flags.color)
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

void PrintReport(const TrainReport& report, const Flags& flags) {
  if (flags.json) {
    const nlohmann::json json = {
        {"out", report.out},
        {"steps", report.steps},
        {"trainedParameters", absl::StrCat(report.trained_parameters)},
        {"modelParameters", absl::StrCat(report.model_parameters)},
        {"sizeBytes", absl::StrCat(report.size_bytes)},
        {"loss", report.loss},
        {"seconds", report.seconds}};
    std::cout << json.dump() << "\n";
  } else if (!flags.quiet) {
    std::cout << absl::StrFormat(
        "%s: trained %d of %d parameters in %d steps; %d bytes, loss %.3f\n",
        report.out, report.trained_parameters, report.model_parameters,
        report.steps, report.size_bytes, report.loss);
  }
}

absl::StatusOr<TrainReport> Run(const Flags& flags, std::stop_token stop) {
  ProgressLine line("steps", !flags.quiet && !flags.no_progress);
  return RunTraining(
      flags.request, std::move(stop), [&line](const TrainProgress& at) {
        line.Show(at.step, at.steps,
                  absl::StrFormat("  %.0f tokens/s, loss %.3f",
                                  at.tokens_per_second, at.loss));
      });
}

// Waits for SIGINT or SIGTERM, which every other thread has blocked.
void WatchSignals(const sigset_t& signals, std::stop_source& run,
                  std::stop_token over) {
  const timespec pause = {.tv_sec = 0, .tv_nsec = 100'000'000};
  while (!over.stop_requested()) {
    if (sigtimedwait(&signals, nullptr, &pause) > 0) run.request_stop();
  }
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Trains or fine-tunes a model, deterministically, without a hub",
               kCommand);
  app.footer(kFooter);
  AddModelFlags(app, flags);
  AddTrainingFlags(app, flags);
  AddMethodFlags(app, flags);
  AddRunFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageExit;
  }
  TrainRequest& request = flags.request;
  if (request.model.empty() == request.init_config.empty() ||
      (request.model.empty() && request.method != TuningMethod::kFull)) {
    std::cerr << "cairn train: give --model DIR, or --init-config FILE with "
                 "--method full\n";
    return kUsageExit;
  }
  for (const std::string& text : flags.data) {
    request.data.push_back(ParseData(text));
  }
  request.checkpoint_interval = absl::Seconds(flags.checkpoint_seconds);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const auto stop = std::make_unique<std::stop_source>();
  const std::jthread watcher([&signals, &stop](std::stop_token over) {
    WatchSignals(signals, *stop, std::move(over));
  });
  InitCompute();
  WarnIfMatrixProductsAreSlow();
  const auto report = Run(flags, stop->get_token());
  if (!report.ok()) return Fail(kCommand, report.status(), flags.json);
  PrintReport(*report, flags);
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) { return cairn::Main(argc, argv); }
