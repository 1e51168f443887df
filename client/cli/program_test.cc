#include "client/cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/local_programs.h"

namespace cairn::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Every command that does something, with its words.
void Collect(const CLI::App& app, const std::string& prefix,
             std::vector<std::pair<std::string, const CLI::App*>>& out) {
  for (const CLI::App* child :
       app.get_subcommands([](const CLI::App*) { return true; })) {
    const std::string words = prefix + " " + child->get_name();
    if (child->get_subcommands([](const CLI::App*) { return true; }).empty()) {
      if (FindLocalProgram(child->get_name()) == nullptr || prefix != "cairn") {
        out.emplace_back(words, child);
      }
    } else {
      Collect(*child, words, out);
    }
  }
}

TEST(ProgramTest, EveryCommandHasAnExampleOfItself) {
  auto program = MakeProgram();
  std::vector<std::pair<std::string, const CLI::App*>> commands;
  Collect(*program->app, "cairn", commands);
  EXPECT_GT(commands.size(), 45u);
  for (const auto& [words, command] : commands) {
    EXPECT_THAT(command->get_footer(), HasSubstr("Example:\n  " + words));
    EXPECT_FALSE(command->get_description().empty()) << words;
  }
}

TEST(ProgramTest, GlobalFlagsStandBeforeOrAfterTheCommand) {
  auto before = MakeProgram();
  before->app->parse("--json --hub h:1 model list");
  EXPECT_TRUE(before->flags.json);
  EXPECT_EQ(before->flags.hub, "h:1");
  EXPECT_TRUE(before->action);
  auto after = MakeProgram();
  after->app->parse("release show m@v1 --hub h:1 --json");
  EXPECT_TRUE(after->flags.json);
  EXPECT_EQ(after->flags.hub, "h:1");
}

TEST(ProgramTest, MistakesAreRefused) {
  for (const char* line :
       {"", "model", "no-such", "push", "push m", "push m p --no-such-flag",
        "model show a b", "tag set m t", "--color pink model list"}) {
    auto program = MakeProgram();
    EXPECT_THROW(program->app->parse(line), CLI::ParseError) << line;
  }
}

TEST(ProgramTest, FlagsWithAndWithoutValue) {
  for (const char* line : {"push m p --wait", "push m p --wait=released",
                           "push --claim a m p --claim b,c --license MIT"}) {
    auto program = MakeProgram();
    EXPECT_NO_THROW(program->app->parse(line)) << line;
  }
}

TEST(ProgramTest, SaysWhichCommandIsUnknown) {
  auto program = MakeProgram();
  EXPECT_THAT(UnknownCommand(*program->app, {"pussh", "m"}),
              HasSubstr("no command `pussh`"));
  EXPECT_THAT(UnknownCommand(*program->app, {"--hub", "x", "tag", "mov"}),
              HasSubstr("no command `mov`; there are list, set, delete"));
  EXPECT_EQ(UnknownCommand(*program->app, {"push", "m", "p"}), "");
}

TEST(ProgramTest, CompletesCommandsAndFlags) {
  auto program = MakeProgram();
  EXPECT_THAT(Complete(*program->app, {"rel"}), ElementsAre("release"));
  EXPECT_THAT(Complete(*program->app, {"tag", ""}),
              ElementsAre("list", "set", "delete"));
  EXPECT_THAT(Complete(*program->app, {"push", "m", "--cl"}),
              ElementsAre("--claim"));
  EXPECT_THAT(Complete(*program->app, {"--home", "tag", "que"}),
              ElementsAre("queue"));
  EXPECT_THAT(Complete(*program->app, {"push", "--js"}), Contains("--json"));
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_THAT(CompletionScript(shell), HasSubstr("__complete"));
  }
  EXPECT_THAT(CompletionScript("csh"), Not(HasSubstr("__complete")));
}

}  // namespace
}  // namespace cairn::cli
