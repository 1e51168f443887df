#ifndef CAIRN_CLIENT_CLI_DEV_SUITES_H_
#define CAIRN_CLIENT_CLI_DEV_SUITES_H_

#include <string>

#include "absl/status/status.h"
#include "cairn/v1/contribution.pb.h"
#include "client/cli/session.h"

namespace cairn::cli {

// Scores the update or checkpoint at `path`, and the base of `contribution`, on
// the public dev split of every suite of its model, on this machine, with
// cairn-evaluate. Adds one report a suite to `contribution`, with the suite's
// margin. Says so when there is nothing to score or nothing to score it with.
absl::Status MeasureOnDevSuites(Session& session, HubChannel& hub,
                                const std::string& path,
                                v1::Contribution& contribution);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_DEV_SUITES_H_
