#include "server/flow/reasons.h"

#include "core/base/status_util.h"
#include "server/flow/contribution_state.h"

namespace cairn {

v1::Reason MakeReason(v1::Reason::Code code, absl::string_view message) {
  v1::Reason reason;
  reason.set_code(code);
  reason.set_message(std::string(message));
  return reason;
}

v1::Reason ReasonOf(const absl::Status& status) {
  v1::Reason reason = MakeReason(absl::IsInvalidArgument(status)
                                     ? v1::Reason::MALFORMED_FILE
                                     : v1::Reason::EVALUATION_FAILED,
                                 std::string(status.message()));
  auto given = GetReason(status);
  if (!given.has_value()) return reason;
  v1::Reason::Code code = v1::Reason::CODE_UNSPECIFIED;
  if (v1::Reason::Code_Parse(given->code, &code)) reason.set_code(code);
  if (auto it = given->details.find("tensor"); it != given->details.end()) {
    reason.set_tensor(it->second);
  }
  if (auto it = given->details.find("suite"); it != given->details.end()) {
    reason.set_suite(it->second);
  }
  return reason;
}

v1::Reason WithoutItems(const v1::Reason& reason) {
  switch (reason.code()) {
    case v1::Reason::EVALUATION_FAILED:
    case v1::Reason::MALFORMED_FILE:
    case v1::Reason::NON_FINITE:
    case v1::Reason::UNSUPPORTED:
      break;
    default:
      return reason;
  }
  v1::Reason out = MakeReason(
      reason.code(), "the work could not be completed; reviewers see why");
  out.set_tensor(reason.tensor());
  return out;
}

v1::Verdict MakeVerdict(absl::string_view stage, v1::Verdict::Decision decision,
                        const std::vector<v1::Reason>& reasons,
                        absl::Time now) {
  v1::Verdict verdict;
  verdict.set_stage(std::string(stage));
  verdict.set_decision(decision);
  for (const v1::Reason& reason : reasons) *verdict.add_reasons() = reason;
  *verdict.mutable_create_time() = ToTimestamp(now);
  return verdict;
}

}  // namespace cairn
