#ifndef CAIRN_CLIENT_CLI_ATTRIBUTION_VIEW_H_
#define CAIRN_CLIENT_CLI_ATTRIBUTION_VIEW_H_

#include <string>

#include "cairn/v1/common.pb.h"

namespace cairn::cli {

// What a merge owes to its parts, for people, indented.
std::string DescribeAttribution(const v1::Attribution& attribution);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_ATTRIBUTION_VIEW_H_
