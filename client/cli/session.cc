#include "client/cli/session.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/rpc/hub_address.h"

namespace cairn::cli {
namespace {

constexpr char kUsagePayload[] = "cairn/usage";

bool WantsColor(const std::string& mode) {
  if (mode == "always") return true;
  if (mode == "never" || std::getenv("NO_COLOR") != nullptr) return false;
  return isatty(STDOUT_FILENO) != 0;
}

}  // namespace

Session::Session(GlobalFlags flags, std::stop_token stop)
    : flags_(std::move(flags)),
      home_(flags_.home.empty() ? Home::DefaultPath() : flags_.home),
      stop_(std::move(stop)) {}

absl::StatusOr<HubChannel*> Session::Hub() {
  if (hub_ != nullptr) return hub_.get();
  CAIRN_ASSIGN_OR_RETURN(HomeSettings settings, home_.ReadSettings());
  HubChannel::Options options;
  CAIRN_ASSIGN_OR_RETURN(options.address, ChooseHub(flags_, settings));
  CAIRN_ASSIGN_OR_RETURN(HubAddress address, ParseHubAddress(options.address));
  if (address.security == HubAddress::Security::kTls) {
    CAIRN_ASSIGN_OR_RETURN(options.ca_pem, home_.ReadCa());
  }
  CAIRN_ASSIGN_OR_RETURN(options.token, home_.ReadToken(flags_.token_file));
  options.stop = stop_;
  CAIRN_ASSIGN_OR_RETURN(hub_, HubChannel::Create(std::move(options)));
  return hub_.get();
}

absl::StatusOr<std::string> Session::RootFingerprint() const {
  CAIRN_ASSIGN_OR_RETURN(HomeSettings settings, home_.ReadSettings());
  return settings.root_fingerprint;
}

void Session::Print(absl::string_view text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (text.empty() || text.back() != '\n') std::fputc('\n', stdout);
  std::fflush(stdout);
}

void Session::Note(absl::string_view text) const {
  if (!flags_.quiet) {
    std::fprintf(stderr, "%s\n", std::string(text).c_str());
  }
}

void Session::Warn(absl::string_view text) const {
  std::fprintf(stderr, "cairn: warning: %s\n", std::string(text).c_str());
}

std::unique_ptr<ProgressMeter> Session::Meter(const std::string& label,
                                              int64_t total_bytes) const {
  ProgressStyle style = ProgressStyle::kLines;
  if (flags_.quiet || flags_.no_progress) {
    style = ProgressStyle::kNone;
  } else if (isatty(STDERR_FILENO) != 0) {
    style = ProgressStyle::kBar;
  }
  return std::make_unique<ProgressMeter>(style, label, total_bytes);
}

std::string Session::Colored(absl::string_view text,
                             absl::string_view color) const {
  if (!WantsColor(flags_.color) || color.empty()) return std::string(text);
  return absl::StrCat("\x1b[", color, "m", text, "\x1b[0m");
}

absl::StatusOr<std::string> ChooseHub(const GlobalFlags& flags,
                                      const HomeSettings& settings) {
  if (!flags.hub.empty()) return flags.hub;
  if (!settings.hub.empty()) return settings.hub;
  return absl::FailedPreconditionError(
      "no hub is known; say --hub HOST:PORT, or set one up with `cairn init "
      "--hub HOST:PORT --ca FILE`");
}

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

int ExitCode(const absl::Status& status) {
  if (status.GetPayload(kUsagePayload).has_value()) return 2;
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

}  // namespace cairn::cli
