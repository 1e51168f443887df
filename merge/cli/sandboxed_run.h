#ifndef CAIRN_MERGE_CLI_SANDBOXED_RUN_H_
#define CAIRN_MERGE_CLI_SANDBOXED_RUN_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// Runs this program once more, in a sandbox (merge/process) and with the same
// arguments and `--in-sandbox FOLDER`; writes what it wrote on stdout and
// returns its exit code. Where it has none, because it crashed or broke a
// limit, fails as Fail() does.
int RunInSandbox(absl::string_view command, int argc, char** argv, bool json);

// In the program that was so started: does `run`, whose stdout and exit code go
// to `folder`, and returns the latter.
int RunAsSandboxed(const std::string& folder, const std::function<int()>& run);

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_SANDBOXED_RUN_H_
