#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/time/clock.h"
#include "core/base/digest.h"
#include "core/base/log.h"

namespace cairn::testing {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void Redirect(const std::string& path, int fd) {
  int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  CAIRN_CHECK(file >= 0);
  CAIRN_CHECK(::dup2(file, fd) == fd);
  ::close(file);
}

[[noreturn]] void Become(const Process::Options& options) {
  int null = ::open("/dev/null", O_RDONLY);
  CAIRN_CHECK(::dup2(null, STDIN_FILENO) == STDIN_FILENO);
  Redirect(options.out_path, STDOUT_FILENO);
  Redirect(options.err_path, STDERR_FILENO);
  for (const auto& [name, value] : options.env) {
    if (value.empty()) {
      ::unsetenv(name.c_str());
    } else {
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  std::vector<char*> argv;
  argv.reserve(options.argv.size() + 1);
  for (const std::string& arg : options.argv) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

Process::Process(const Options& options) {
  pid_ = ::fork();
  CAIRN_CHECK(pid_ >= 0);
  if (pid_ == 0) Become(options);
}

Process::~Process() { Kill(); }

bool Process::IsRunning() {
  Reap(/*block=*/false);
  return !is_reaped_;
}

void Process::Signal(int signal) const {
  if (!is_reaped_) ::kill(pid_, signal);
}

void Process::Kill() {
  Signal(SIGKILL);
  Reap(/*block=*/true);
}

int Process::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (IsRunning() && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  Kill();
  return code_;
}

void Process::Reap(bool block) {
  if (is_reaped_) return;
  int status = 0;
  if (::waitpid(pid_, &status, block ? 0 : WNOHANG) != pid_) return;
  is_reaped_ = true;
  code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

ProcessResult RunProcess(const std::vector<std::string>& argv,
                         const std::map<std::string, std::string>& env,
                         absl::Duration timeout) {
  const std::string stem =
      (std::filesystem::temp_directory_path() / ToHex(RandomBytes(8))).string();
  const std::string out = stem + ".out";
  const std::string err = stem + ".err";
  ProcessResult result;
  {
    Process process(
        {.argv = argv, .env = env, .out_path = out, .err_path = err});
    result.code = process.Wait(timeout);
  }
  result.out = Slurp(out);
  result.err = Slurp(err);
  std::filesystem::remove(out);
  std::filesystem::remove(err);
  return result;
}

}  // namespace cairn::testing
