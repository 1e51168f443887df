#ifndef CAIRN_CORE_BASE_STATUS_UTIL_H_
#define CAIRN_CORE_BASE_STATUS_UTIL_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace cairn {

// The machine-readable part of an error; travels as google.rpc.ErrorInfo.
struct ErrorReason {
  // A name of cairn.v1.Reason.Code, e.g. "MALFORMED_FILE".
  std::string code;
  // What it is about: tensor, file, field, contribution, limit, measured, ...
  std::map<std::string, std::string> details;
};

// An error with a reason. `message` says what is wrong, where, and what would
// be right.
absl::Status ReasonedError(absl::StatusCode code, absl::string_view reason,
                           absl::string_view message,
                           std::map<std::string, std::string> details = {});

// The reason of a status, if it carries one.
std::optional<ErrorReason> GetReason(const absl::Status& status);

// Adds details to a reasoned error (and a reason-less one gets them too);
// OK stays OK. Existing keys are kept.
absl::Status WithDetails(absl::Status status,
                         const std::map<std::string, std::string>& details);

// RESOURCE_EXHAUSTED/UNAVAILABLE: when to try again; travels as RetryInfo.
absl::Status WithRetryDelay(absl::Status status, absl::Duration delay);
std::optional<absl::Duration> GetRetryDelay(const absl::Status& status);

// Prefixes the message with what was being done; code and payloads stay.
absl::Status Annotate(const absl::Status& status, absl::string_view doing);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_STATUS_UTIL_H_
