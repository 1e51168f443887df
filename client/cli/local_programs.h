#ifndef CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_
#define CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/release.pb.h"
#include "client/cli/session.h"

namespace cairn::cli {

// A command that is a program of its own, found as git finds its commands:
// `cairn evaluate` runs `cairn-evaluate` beside itself or on PATH.
struct LocalProgram {
  const char* name;
  const char* what;
  const char* example;
};

// All of them.
std::span<const LocalProgram> LocalPrograms();
// Null when `name` is none of them.
const LocalProgram* FindLocalProgram(const std::string& name);

// Becomes the program with these arguments. MODEL@REF arguments are pulled
// into the home first and handed over as directories. Returns only when it
// cannot: UNIMPLEMENTED naming the package when the program is absent.
// `before_exec` runs last.
absl::Status RunLocalProgram(Session& session, const LocalProgram& program,
                             std::vector<std::string> arguments,
                             void (*before_exec)());

// Runs the program to its end and returns what it printed to standard output;
// its messages go to ours. UNIMPLEMENTED when it is absent, FAILED_PRECONDITION
// with its exit code when it failed.
absl::StatusOr<std::string> CaptureLocalProgram(
    const LocalProgram& program, std::vector<std::string> arguments);

// The directory of the home that holds exactly this release, pulled if it is
// not there yet.
absl::StatusOr<std::string> CachedRelease(Session& session, HubChannel& hub,
                                          const v1::Release& release);

// The help of a program that is not installed.
std::string LocalHelp(const LocalProgram& program);

// Whether the program is there.
bool IsInstalled(const LocalProgram& program);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_
