#ifndef CAIRN_CLIENT_CLI_COMMAND_H_
#define CAIRN_CLIENT_CLI_COMMAND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/session.h"

namespace CLI {
class App;
}

namespace cairn::cli {

// What a command does once its command line is parsed.
using Action = std::function<absl::Status(Session&)>;

// The arguments and flags of one command. The variables are filled in by
// parsing and must outlive it.
class Parameters {
 public:
  explicit Parameters(CLI::App& app) : app_(app) {}

  // Arguments, in the order in which they are declared.
  void Argument(const std::string& name, std::string& value,
                const std::string& help);
  void OptionalArgument(const std::string& name, std::string& value,
                        const std::string& help);
  // `--name VALUE`.
  void Option(const std::string& name, std::string& value,
              const std::string& help);
  void RequiredOption(const std::string& name, std::string& value,
                      const std::string& help);
  void Option(const std::string& name, std::vector<std::string>& values,
              const std::string& help);
  void Option(const std::string& name, std::optional<double>& value,
              const std::string& help);
  void Option(const std::string& name, int64_t& value, const std::string& help);
  // `--name`.
  void Flag(const std::string& name, bool& value, const std::string& help);
  // `--name` gives "true", `--name=VALUE` VALUE.
  void Flag(const std::string& name, std::string& value,
            const std::string& help);

 private:
  CLI::App& app_;
};

// Where commands are put together: parsing one chooses its action.
class CommandLine {
 public:
  CommandLine(CLI::App& app, Action& chosen) : app_(&app), chosen_(&chosen) {}

  // A group of commands: `cairn model ...`.
  CommandLine Group(const std::string& name, const std::string& what);

  // A command with an example of its use. `Options` is filled in by `declare`
  // and lives as long as the command line.
  template <typename Options, typename Declare, typename Run>
  void Add(const std::string& name, const std::string& what,
           const std::string& example, Declare declare, Run run) {
    auto options = std::make_shared<Options>();
    AddCommand(
        name, what, example,
        [&](Parameters& parameters) { declare(parameters, *options); },
        [options, run](Session& session) { return run(session, *options); });
  }

 private:
  void AddCommand(const std::string& name, const std::string& what,
                  const std::string& example,
                  const std::function<void(Parameters&)>& declare,
                  Action action);

  CLI::App* app_;
  Action* chosen_;
};

// One function a group of commands; each adds its commands to the program's.
void AddHomeCommands(CommandLine& root);          // init, identity
void AddAdminCommands(CommandLine& root);         // admin
void AddQuotaCommands(CommandLine& root);         // quota, hub
void AddModelCommands(CommandLine& root);         // model
void AddSuiteCommands(CommandLine& root);         // suite
void AddPushCommand(CommandLine& root);           // push
void AddContributionCommands(CommandLine& root);  // status, contribution,
                                                  // withdraw, revert
void AddWatchCommand(CommandLine& root);          // watch
void AddReviewCommands(CommandLine& root);        // review
void AddQueueCommands(CommandLine& root);         // queue
void AddBatchCommands(CommandLine& root);         // batch
void AddReleaseCommands(CommandLine& root);       // release
void AddHistoryCommands(CommandLine& root);       // log, blame
void AddTagCommands(CommandLine& root);           // tag, rollback
void AddPullCommands(CommandLine& root);          // pull, verify

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_COMMAND_H_
