#ifndef CAIRN_SERVER_FLOW_REASONS_H_
#define CAIRN_SERVER_FLOW_REASONS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cairn/v1/common.pb.h"

namespace cairn {

// A reason in the words of an error: its message, the tensor and suite that its
// details name, and its code; an error without one is MALFORMED_FILE when
// something given was wrong, else EVALUATION_FAILED.
v1::Reason ReasonOf(const absl::Status& status);

v1::Reason MakeReason(v1::Reason::Code code, absl::string_view message);

// What those who may not see the items of suites are told of a reason by a gate
// or a batch: of work that failed, whose own words can name an item, no more
// than that it failed.
v1::Reason WithoutItems(const v1::Reason& reason);

// What a stage decided, now.
v1::Verdict MakeVerdict(absl::string_view stage, v1::Verdict::Decision decision,
                        const std::vector<v1::Reason>& reasons, absl::Time now);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_REASONS_H_
