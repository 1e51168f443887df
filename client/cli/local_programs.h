#ifndef CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_
#define CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
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

// The help of a program that is not installed.
std::string LocalHelp(const LocalProgram& program);

// Whether the program is there.
bool IsInstalled(const LocalProgram& program);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_LOCAL_PROGRAMS_H_
