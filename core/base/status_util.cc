#include "core/base/status_util.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "core/base/utf8.h"
#include "google/rpc/error_details.pb.h"

namespace cairn {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

std::optional<google::rpc::ErrorInfo> ReadInfo(const absl::Status& status) {
  auto payload = status.GetPayload(kErrorInfoUrl);
  if (!payload.has_value()) return std::nullopt;
  google::rpc::ErrorInfo info;
  if (!info.ParseFromString(std::string(*payload))) return std::nullopt;
  return info;
}

void WriteInfo(const google::rpc::ErrorInfo& info, absl::Status& status) {
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
}

}  // namespace

absl::Status ReasonedError(absl::StatusCode code, absl::string_view reason,
                           absl::string_view message,
                           std::map<std::string, std::string> details) {
  absl::Status status(code, message);
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("cairn");
  for (const auto& [key, value] : details) {
    (*info.mutable_metadata())[key] = MakeUtf8(value);
  }
  WriteInfo(info, status);
  return status;
}

std::optional<ErrorReason> GetReason(const absl::Status& status) {
  auto info = ReadInfo(status);
  if (!info.has_value()) return std::nullopt;
  ErrorReason reason{.code = info->reason(), .details = {}};
  for (const auto& [key, value] : info->metadata()) {
    reason.details[key] = value;
  }
  return reason;
}

absl::Status WithDetails(absl::Status status,
                         const std::map<std::string, std::string>& details) {
  if (status.ok()) return status;
  auto info = ReadInfo(status).value_or(google::rpc::ErrorInfo());
  info.set_domain("cairn");
  for (const auto& [key, value] : details) {
    info.mutable_metadata()->insert({key, MakeUtf8(value)});
  }
  WriteInfo(info, status);
  return status;
}

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  if (status.ok()) return status;
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
  status.SetPayload(kRetryInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

std::optional<absl::Duration> GetRetryDelay(const absl::Status& status) {
  auto payload = status.GetPayload(kRetryInfoUrl);
  if (!payload.has_value()) return std::nullopt;
  google::rpc::RetryInfo info;
  if (!info.ParseFromString(std::string(*payload))) return std::nullopt;
  return absl::Seconds(info.retry_delay().seconds()) +
         absl::Nanoseconds(info.retry_delay().nanos());
}

absl::Status Annotate(const absl::Status& status, absl::string_view doing) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(doing, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) {
    out.SetPayload(url, value);
  });
  return out;
}

}  // namespace cairn
