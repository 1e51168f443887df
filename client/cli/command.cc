#include "client/cli/command.h"

#include <CLI/CLI.hpp>

namespace cairn::cli {

void Parameters::Argument(const std::string& name, std::string& value,
                          const std::string& help) {
  app_.add_option(name, value, help)->required();
}

void Parameters::OptionalArgument(const std::string& name, std::string& value,
                                  const std::string& help) {
  app_.add_option(name, value, help);
}

void Parameters::Option(const std::string& name, std::string& value,
                        const std::string& help) {
  app_.add_option(name, value, help);
}

void Parameters::RequiredOption(const std::string& name, std::string& value,
                                const std::string& help) {
  app_.add_option(name, value, help)->required();
}

void Parameters::Option(const std::string& name,
                        std::vector<std::string>& values,
                        const std::string& help) {
  app_.add_option(name, values, help)
      ->expected(1)
      ->allow_extra_args(false)
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void Parameters::Option(const std::string& name, std::optional<double>& value,
                        const std::string& help) {
  app_.add_option_function<double>(
      name, [&value](double given) { value = given; }, help);
}

void Parameters::Option(const std::string& name, int64_t& value,
                        const std::string& help) {
  app_.add_option(name, value, help);
}

void Parameters::Flag(const std::string& name, bool& value,
                      const std::string& help) {
  app_.add_flag(name, value, help);
}

void Parameters::Flag(const std::string& name, std::string& value,
                      const std::string& help) {
  app_.add_flag(name, value, help);
}

CommandLine CommandLine::Group(const std::string& name,
                               const std::string& what) {
  CLI::App* group = app_->add_subcommand(name, what);
  group->require_subcommand(1);
  return CommandLine(*group, *chosen_);
}

void CommandLine::AddCommand(const std::string& name, const std::string& what,
                             const std::string& example,
                             const std::function<void(Parameters&)>& declare,
                             Action action) {
  CLI::App* command = app_->add_subcommand(name, what);
  command->footer(
      "Flags of every command (--hub, --home, --json, ...): cairn "
      "--help\n\nExample:\n  " +
      example);
  Parameters parameters(*command);
  declare(parameters);
  command->callback(
      [chosen = chosen_, action = std::move(action)] { *chosen = action; });
}

}  // namespace cairn::cli
