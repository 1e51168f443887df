#include <google/protobuf/util/json_util.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "cairn/v1/contribution.pb.h"
#include "client/cli/command.h"
#include "client/cli/contribution_view.h"
#include "client/cli/dev_suites.h"
#include "client/names.h"
#include "client/push.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn::cli {
namespace {

// What is wrong with an update itself, whoever found it: exit 6.
constexpr int kRejected = 6;

struct Options {
  std::string model;
  PushOptions push;
  std::string recipe;
  std::string wait;
  bool dry_run = false;
};

absl::StatusOr<v1::Recipe> ReadRecipe(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 1 << 20));
  v1::Recipe recipe;
  auto parsed = google::protobuf::util::JsonStringToMessage(text, &recipe);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", std::string(parsed.message()),
        "; known keys are seed, dataDigest, codeVersion, frameworkVersions, "
        "hyperparameters"));
  }
  return recipe;
}

bool IsAboutTheUpdate(const absl::Status& status) {
  static const std::set<std::string>* const kReasons =
      new std::set<std::string>{
          "MALFORMED_FILE", "UNKNOWN_FORMAT",      "UNSUPPORTED",
          "FORBIDDEN_FILE", "UNKNOWN_TENSOR",      "SHAPE_MISMATCH",
          "DTYPE_MISMATCH", "NON_FINITE",          "NORM_TOO_LARGE",
          "SCREEN_ANOMALY", "SIGNATURE_INVALID",   "LICENSE_MISSING",
          "LIMIT_EXCEEDED", "LICENSE_NOT_ALLOWED", "NO_SUITES"};
  auto reason = GetReason(status);
  return reason.has_value() && kReasons->contains(reason->code);
}

absl::StatusOr<std::optional<WaitFor>> ParseWait(const std::string& text) {
  if (text.empty() || text == "false") return std::nullopt;
  if (text == "true" || text == "vetted") return WaitFor::kVetted;
  if (text == "released") return WaitFor::kReleased;
  return UsageError(
      absl::StrCat("--wait=", text, ": must be --wait or --wait=released"));
}

absl::Status RunPush(Session& session, const Options& options) {
  CAIRN_ASSIGN_OR_RETURN(std::optional<WaitFor> wait, ParseWait(options.wait));
  PushOptions push = options.push;
  CAIRN_ASSIGN_OR_RETURN(push.model, ModelName(options.model));
  push.validate_only = options.dry_run;
  if (!options.recipe.empty()) {
    CAIRN_ASSIGN_OR_RETURN(push.recipe, ReadRecipe(options.recipe));
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  PushVoice voice{
      .note = [&](const std::string& text) { session.Note(text); },
      .warn = [&](const std::string& text) { session.Warn(text); },
      .meter = [&](const std::string& label,
                   int64_t total) { return session.Meter(label, total); }};
  auto contribution = Push(*hub, session.home(), push, voice);
  if (!contribution.ok()) {
    if (IsAboutTheUpdate(contribution.status())) {
      session.set_exit_code(kRejected);
    }
    return contribution.status();
  }
  if (wait.has_value() && !options.dry_run) {
    CAIRN_ASSIGN_OR_RETURN(
        *contribution,
        AwaitContribution(session, *hub, *std::move(contribution), *wait));
    if (contribution->state() == v1::Contribution::REJECTED) {
      session.set_exit_code(kRejected);
    }
  }
  if (options.dry_run) {
    CAIRN_RETURN_IF_ERROR(
        MeasureOnDevSuites(session, *hub, push.path, *contribution));
  }
  PrintContribution(session, *contribution);
  return absl::OkStatus();
}

}  // namespace

void AddPushCommand(CommandLine& root) {
  root.Add<Options>(
      "push", "Contribute an update to a model",
      "cairn push tiny-llama ./adapter --claim python --license Apache-2.0 "
      "--wait",
      [](Parameters& p, Options& o) {
        p.Argument("MODEL", o.model, "The model");
        p.Argument("PATH", o.push.path,
                   "PEFT directory, Cairn update, or fine-tuned checkpoint "
                   "(its change is extracted and compressed)");
        p.Option("--base", o.push.base,
                 "Release it was made on (default: found by its files)");
        p.Option("--claim", o.push.claims,
                 "Suite that gets better; may be repeated");
        p.Option("--title", o.push.title, "One line for people");
        p.Option("--license", o.push.license, "SPDX licence identifier");
        p.Option("--recipe", o.recipe,
                 "How it was trained (JSON, as `cairn train` writes it)");
        p.Flag("--wait", o.wait,
               "Wait until it is vetted; --wait=released: until it is "
               "released or refused");
        p.Flag("--dry-run", o.dry_run,
               "Check everything and score it on the public dev splits; "
               "contribute "
               "nothing");
      },
      RunPush);
}

}  // namespace cairn::cli
