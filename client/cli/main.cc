// `cairn`: the contributor's, maintainer's and consumer's command.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/local_programs.h"
#include "client/cli/output.h"
#include "client/cli/program.h"
#include "core/base/allocation.h"
#include "core/base/status_util.h"

namespace cairn::cli {
namespace {

constexpr int kInterrupted = 130;

sigset_t InterruptSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// Turns the first interrupt into a stop request; the second one ends the
// process at once. Every other thread has the signals blocked.
void WatchInterrupts(std::stop_token done, std::stop_source& interrupted) {
  const sigset_t set = InterruptSignals();
  const timespec period{.tv_sec = 0, .tv_nsec = 50'000'000};
  while (!done.stop_requested()) {
    if (sigtimedwait(&set, nullptr, &period) < 0) continue;
    if (!interrupted.request_stop()) _exit(kInterrupted);
  }
}

void RestoreSignals() {
  const sigset_t set = InterruptSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

// Reports how a command ended, and gives its exit code.
int Conclude(const Session& session, const absl::Status& status) {
  if (status.ok()) return session.exit_code().value_or(0);
  int code = session.exit_code().value_or(ExitCode(status));
  if (session.stop().stop_requested()) code = kInterrupted;
  if (session.flags().json) session.Print(ErrorJson(status));
  const auto reason = GetReason(status);
  std::fprintf(stderr, "cairn: %s%s%s\n",
               reason.has_value() ? reason->code.c_str() : "",
               reason.has_value() && !reason->code.empty() ? ": " : "",
               std::string(status.message()).c_str());
  if (code == kInterrupted) {
    std::fprintf(stderr, "cairn: the same command again resumes\n");
  }
  return code;
}

// A command line that names a local program: global flags, the program, and
// what is passed on to it.
struct LocalCall {
  const LocalProgram* program = nullptr;
  GlobalFlags flags;
  std::vector<std::string> arguments;
};

// Global flags may stand before the program's name; those that the program
// knows too are passed on.
LocalCall ParseLocalCall(const std::vector<std::string>& words) {
  LocalCall call;
  if (const char* hub = std::getenv("CAIRN_HUB")) call.flags.hub = hub;
  std::vector<std::string> passed_on;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!absl::StartsWith(word, "-")) {
      call.program = FindLocalProgram(word);
      call.arguments.assign(words.begin() + static_cast<ptrdiff_t>(i) + 1,
                            words.end());
      call.arguments.insert(call.arguments.end(), passed_on.begin(),
                            passed_on.end());
      return call;
    }
    const bool has_value = i + 1 < words.size();
    if (word == "--hub" && has_value) {
      call.flags.hub = words[++i];
    } else if (word == "--home" && has_value) {
      call.flags.home = words[++i];
    } else if (word == "--token-file" && has_value) {
      call.flags.token_file = words[++i];
    } else if (word == "--color" && has_value) {
      call.flags.color = words[++i];
    } else if (word == "--json" || word == "--quiet" ||
               word == "--no-progress") {
      call.flags.json |= word == "--json";
      call.flags.quiet |= word == "--quiet";
      call.flags.no_progress |= word == "--no-progress";
      passed_on.push_back(word);
    } else {
      return call;
    }
  }
  return call;
}

int RunLocal(const LocalCall& call, std::stop_token stop) {
  const std::set<std::string> words(call.arguments.begin(),
                                    call.arguments.end());
  if (words.contains("--help") && !IsInstalled(*call.program)) {
    std::fputs(LocalHelp(*call.program).c_str(), stdout);
    return 0;
  }
  GlobalFlags flags = call.flags;
  flags.json |= words.contains("--json");
  Session session(flags, std::move(stop));
  return Conclude(session, RunLocalProgram(session, *call.program,
                                           call.arguments, RestoreSignals));
}

int RunCommand(Program& program, int argc, char** argv, std::stop_token stop) {
  try {
    program.app->parse(argc, argv);
  } catch (const CLI::Success& told) {
    return program.app->exit(told);  // --help, --version
  } catch (const CLI::ParseError& error) {
    const std::string unknown =
        UnknownCommand(*program.app, {argv + 1, argv + argc});
    std::fprintf(stderr,
                 "cairn: %s\n`cairn --help` and `cairn COMMAND --help` show "
                 "what is understood.\n",
                 unknown.empty() ? error.what() : unknown.c_str());
    return 2;
  }
  Session session(program.flags, std::move(stop));
  return Conclude(session, program.action(session));
}

int Main(int argc, char** argv) {
  KeepFreedBuffers();
  // gRPC's own log says nothing that our errors do not.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  signal(SIGPIPE, SIG_IGN);
  const sigset_t set = InterruptSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::stop_source interrupted;
  std::jthread watcher([&interrupted](std::stop_token done) {
    WatchInterrupts(std::move(done), interrupted);
  });
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (LocalCall call = ParseLocalCall(words); call.program != nullptr) {
    return RunLocal(call, interrupted.get_token());
  }
  auto program = MakeProgram();
  if (!words.empty() && words[0] == "__complete") {
    for (const std::string& word :
         Complete(*program->app, {words.begin() + 1, words.end()})) {
      std::puts(word.c_str());
    }
    return 0;
  }
  return RunCommand(*program, argc, argv, interrupted.get_token());
}

}  // namespace
}  // namespace cairn::cli

int main(int argc, char** argv) { return cairn::cli::Main(argc, argv); }
