#ifndef CAIRN_CLIENT_CLI_RELEASE_DIFF_H_
#define CAIRN_CLIENT_CLI_RELEASE_DIFF_H_

#include "client/cli/command.h"

namespace cairn::cli {

// `cairn release diff`.
void AddReleaseDiff(CommandLine& release);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_RELEASE_DIFF_H_
