#ifndef CAIRN_CLIENT_POLICY_YAML_H_
#define CAIRN_CLIENT_POLICY_YAML_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/model.pb.h"

namespace cairn {

// Parses a policy file. Its keys are the fields of cairn.v1.Policy, but for
// batch, which is {count: N|off, age: DURATION|off, schedule: off} with
// durations like "90s", "30m", "12h", "7d". INVALID_ARGUMENT naming `label`,
// the line and the key: unknown, given twice, or of the wrong type. Whether
// the values make sense is for the hub to say.
absl::StatusOr<v1::Policy> ParsePolicy(absl::string_view text,
                                       absl::string_view label);

// "90s", "30m", "12h", "7d" in seconds. INVALID_ARGUMENT otherwise.
absl::StatusOr<int64_t> ParseSeconds(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_CLIENT_POLICY_YAML_H_
