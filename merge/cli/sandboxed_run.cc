#include "merge/cli/sandboxed_run.h"

#include <stdlib.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <stop_token>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/cli/command_output.h"
#include "merge/process/job_process.h"

namespace cairn {
namespace {

std::string OutputFile(const std::string& folder) { return folder + "/output"; }
std::string CodeFile(const std::string& folder) { return folder + "/code"; }

// A new folder that goes with this.
class TemporaryFolder {
 public:
  static absl::StatusOr<TemporaryFolder> Make() {
    std::error_code error;
    std::string path =
        (std::filesystem::temp_directory_path(error) / "cairn-XXXXXX").string();
    if (error || mkdtemp(path.data()) == nullptr) {
      return SystemError(errno, absl::StrCat("make the folder ", path));
    }
    return TemporaryFolder(std::move(path));
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept
      : path_(std::move(other.path_)) {
    other.path_.clear();
  }
  ~TemporaryFolder() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }

  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

absl::StatusOr<int> Run(int argc, char** argv) {
  CAIRN_ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
  std::error_code error;
  std::vector<std::string> command = {
      std::filesystem::read_symlink("/proc/self/exe", error).string()};
  command.insert(command.end(), argv + 1, argv + argc);
  command.push_back("--in-sandbox");
  command.push_back(folder.path());
  const absl::Status ran = RunJobProcess(command, JobLimits(), {});
  const absl::StatusOr<std::string> code = ReadFile(CodeFile(folder.path()));
  int exit_code = 0;
  if (!code.ok() || !absl::SimpleAtoi(*code, &exit_code)) {
    return Annotate(ran.ok() ? absl::AbortedError("it left no result") : ran,
                    "running in the sandbox");
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string output,
                         ReadFile(OutputFile(folder.path())));
  std::cout << output << std::flush;
  return exit_code;
}

}  // namespace

int RunInSandbox(absl::string_view command, int argc, char** argv, bool json) {
  const absl::StatusOr<int> code = Run(argc, argv);
  return code.ok() ? *code : Fail(command, code.status(), json);
}

int RunAsSandboxed(const std::string& folder, const std::function<int()>& run) {
  if (std::freopen(OutputFile(folder).c_str(), "w", stdout) == nullptr) {
    return 1;
  }
  const int code = run();
  std::cout << std::flush;
  std::fflush(stdout);
  return WriteFile(CodeFile(folder), absl::StrCat(code)).ok() ? code : 1;
}

}  // namespace cairn
