#ifndef CAIRN_CLIENT_CLI_PROGRAM_H_
#define CAIRN_CLIENT_CLI_PROGRAM_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/command.h"
#include "client/cli/session.h"

namespace cairn::cli {

// The whole command line of `cairn`. Parsing fills in `flags` and chooses
// `action`; all three live together.
struct Program {
  GlobalFlags flags;
  Action action;
  std::unique_ptr<CLI::App> app;
};

std::unique_ptr<Program> MakeProgram();

// What may stand where the last of `words` stands: commands or flags that
// begin with it. For the shells' completion.
std::vector<std::string> Complete(const CLI::App& app,
                                  const std::vector<std::string>& words);

// "no command `x`; ..." when `words` go wrong at the name of a command; empty
// when they do not.
std::string UnknownCommand(const CLI::App& app,
                           const std::vector<std::string>& words);

// The completion script of "bash", "zsh" or "fish"; empty for any other.
std::string CompletionScript(const std::string& shell);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_PROGRAM_H_
