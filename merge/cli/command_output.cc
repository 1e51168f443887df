#include "merge/cli/command_output.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/status_util.h"

namespace cairn {

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kNotFound:
      return 3;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 4;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
      return 5;
    case absl::StatusCode::kDataLoss:
      return 7;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return 8;
    case absl::StatusCode::kCancelled:
      return 130;
    default:
      return 1;
  }
}

int Fail(absl::string_view command, const absl::Status& status, bool json) {
  const std::string message(status.message());
  std::cerr << absl::StrCat(command, ": ", message, "\n");
  if (json) {
    nlohmann::ordered_json error;
    error["code"] = absl::StatusCodeToString(status.code());
    error["message"] = message;
    if (const std::optional<ErrorReason> reason = GetReason(status)) {
      error["reason"] = reason->code;
      error["details"] = reason->details;
    }
    std::cout << nlohmann::ordered_json{{"error", error}}.dump(
                     2, ' ', false,
                     nlohmann::ordered_json::error_handler_t::replace)
              << "\n";
  }
  return ExitCodeOf(status);
}

ProgressLine::ProgressLine(std::string unit, bool is_shown)
    : unit_(std::move(unit)),
      is_shown_(is_shown),
      is_terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  MutexLock lock(mutex_);
  if (has_drawn_ && is_terminal_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::Show(int64_t done, int64_t total, absl::string_view note) {
  if (!is_shown_) return;
  const absl::Time now = absl::Now();
  const absl::Duration pause = absl::Seconds(is_terminal_ ? 0.2 : 5);
  std::string line;
  {
    MutexLock lock(mutex_);
    if (first_ < 0) {
      first_ = done;
      started_ = drawn_ = now;
    }
    if (now - drawn_ < pause || done == first_) return;
    drawn_ = now;
    has_drawn_ = true;
    const double rate = static_cast<double>(done - first_) /
                        absl::ToDoubleSeconds(now - started_);
    const double left = static_cast<double>(total - done) / rate;
    line = absl::StrFormat("%d of %d %s (%.1f/s, %.0f s left)%s", done, total,
                           unit_, rate, left, note);
  }
  if (is_terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

}  // namespace cairn
