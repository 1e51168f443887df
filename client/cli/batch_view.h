#ifndef CAIRN_CLIENT_CLI_BATCH_VIEW_H_
#define CAIRN_CLIENT_CLI_BATCH_VIEW_H_

#include <string>

#include "cairn/v1/batch.pb.h"

namespace cairn::cli {

// A batch for people: state, members, search, bisection, reasons.
std::string DescribeBatch(const v1::Batch& batch);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_BATCH_VIEW_H_
