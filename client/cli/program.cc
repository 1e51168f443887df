#include "client/cli/program.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/local_programs.h"

namespace cairn::cli {
namespace {

constexpr char kFooter[] =
    "Example:\n"
    "  cairn init --hub hub.example.org:7443 --ca ca.pem --identity alice\n"
    "  cairn push tiny-llama ./adapter --claim python --license MIT --wait\n"
    "  cairn pull tiny-llama@stable ./tiny-llama\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed,\n"
    "5 conflict or wrong state, 6 contribution rejected, 7 data corrupt,\n"
    "8 hub unavailable, 130 interrupted.";

void AddGlobalFlags(CLI::App& app, GlobalFlags& flags) {
  app.add_option("--hub", flags.hub, "Address of the hub: HOST:PORT; on its own machine also\n"
                 "http://127.0.0.1:PORT or unix:/PATH, without TLS")
      ->envname("CAIRN_HUB");
  app.add_option("--home", flags.home,
                 "Settings and keys (default: ~/.config/cairn)")
      ->envname("CAIRN_HOME");
  app.add_option("--token-file", flags.token_file,
                 "File with the bearer token (default: HOME/token)")
      ->envname("CAIRN_TOKEN_FILE");
  app.add_option("--color", flags.color, "Colours: auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  app.add_flag("--json", flags.json, "Print results as JSON");
  app.add_flag("--quiet", flags.quiet, "Print results only");
  app.add_flag("--no-progress", flags.no_progress, "Show no progress");
}

void AddCompletion(CommandLine& root) {
  struct Options {
    std::string shell;
  };
  root.Add<Options>(
      "completion", "Print a completion script for a shell",
      "cairn completion bash > /etc/bash_completion.d/cairn",
      [](Parameters& p, Options& o) {
        p.Argument("SHELL", o.shell, "bash, zsh or fish");
      },
      [](Session& session, const Options& o) -> absl::Status {
        const std::string script = CompletionScript(o.shell);
        if (script.empty()) {
          return UsageError(
              absl::StrCat(o.shell, ": must be bash, zsh or fish"));
        }
        session.Print(script);
        return absl::OkStatus();
      });
}

// Shown in the list of commands; they are run before parsing.
void AddLocalPrograms(CLI::App& app) {
  for (const LocalProgram& program : LocalPrograms()) {
    app.add_subcommand(program.name,
                       absl::StrCat(program.what, " (needs no hub)"));
  }
}

bool TakesValue(const CLI::App& app, const std::string& word) {
  for (const CLI::App* level = &app; level != nullptr;
       level = level->get_parent()) {
    const CLI::Option* option = level->get_option_no_throw(word);
    if (option != nullptr) return option->get_items_expected_max() > 0;
  }
  return false;
}

const CLI::App* FindCommand(const CLI::App& app, const std::string& word) {
  for (const CLI::App* child :
       app.get_subcommands([](const CLI::App*) { return true; })) {
    if (child->get_name() == word) return child;
  }
  return nullptr;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* child :
       app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(child->get_name());
  }
  return names;
}

}  // namespace

std::unique_ptr<Program> MakeProgram() {
  auto program = std::make_unique<Program>();
  program->app = std::make_unique<CLI::App>(
      "Contribute to, maintain and use community models of a Cairn hub.",
      "cairn");
  CLI::App& app = *program->app;
  app.fallthrough();
  app.require_subcommand(1);
  app.footer(kFooter);
  app.set_version_flag("--version", absl::StrCat("cairn ", CAIRN_VERSION));
  AddGlobalFlags(app, program->flags);
  CommandLine root(app, program->action);
  AddHomeCommands(root);
  AddPushCommand(root);
  AddContributionCommands(root);
  AddWatchCommand(root);
  AddPullCommands(root);
  AddReviewCommands(root);
  AddQueueCommands(root);
  AddBatchCommands(root);
  AddReleaseCommands(root);
  AddTagCommands(root);
  AddHistoryCommands(root);
  AddModelCommands(root);
  AddSuiteCommands(root);
  AddAdminCommands(root);
  AddQuotaCommands(root);
  AddLocalPrograms(app);
  AddCompletion(root);
  return program;
}

std::vector<std::string> Complete(const CLI::App& app,
                                  const std::vector<std::string>& words) {
  const CLI::App* level = &app;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (absl::StartsWith(words[i], "-")) {
      if (!absl::StrContains(words[i], '=') && TakesValue(*level, words[i])) {
        ++i;
      }
    } else if (const CLI::App* child = FindCommand(*level, words[i])) {
      level = child;
    }
  }
  const std::string prefix = words.empty() ? "" : words.back();
  std::vector<std::string> out;
  if (absl::StartsWith(prefix, "-")) {
    for (const CLI::App* at = level; at != nullptr; at = at->get_parent()) {
      for (const CLI::Option* option : at->get_options()) {
        for (const std::string& name : option->get_lnames()) {
          std::string flag = absl::StrCat("--", name);
          if (absl::StartsWith(flag, prefix)) out.push_back(std::move(flag));
        }
      }
    }
    return out;
  }
  for (std::string& name : CommandNames(*level)) {
    if (absl::StartsWith(name, prefix)) out.push_back(std::move(name));
  }
  return out;
}

std::string UnknownCommand(const CLI::App& app,
                           const std::vector<std::string>& words) {
  const CLI::App* level = &app;
  for (size_t i = 0; i < words.size(); ++i) {
    if (absl::StartsWith(words[i], "-")) {
      if (!absl::StrContains(words[i], '=') && TakesValue(*level, words[i])) {
        ++i;
      }
      continue;
    }
    const CLI::App* child = FindCommand(*level, words[i]);
    if (child == nullptr) {
      const auto known = CommandNames(*level);
      if (known.empty()) return "";
      return absl::StrCat("no command `", words[i], "`; there are ",
                          absl::StrJoin(known, ", "));
    }
    level = child;
  }
  return "";
}

std::string CompletionScript(const std::string& shell) {
  if (shell == "bash") {
    return R"(_cairn() {
  mapfile -t COMPREPLY < <(
    cairn __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _cairn cairn
)";
  }
  if (shell == "zsh") {
    return R"(#compdef cairn
_cairn() {
  local -a found
  found=("${(@f)$(cairn __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(${found:#})
  if (( ${#found} )); then compadd -a found; else _files; fi
}
compdef _cairn cairn
)";
  }
  if (shell == "fish") {
    return "complete -c cairn -a "
           "'(cairn __complete (commandline -opc)[2..] (commandline -ct))'\n";
  }
  return "";
}

}  // namespace cairn::cli
