#ifndef CAIRN_CLIENT_CLI_STORAGE_COMMANDS_H_
#define CAIRN_CLIENT_CLI_STORAGE_COMMANDS_H_

#include "client/cli/command.h"

namespace cairn::cli {

// Adds check, stats, backup and restore to `cairn admin`.
void AddStorageCommands(CommandLine& admin);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_STORAGE_COMMANDS_H_
