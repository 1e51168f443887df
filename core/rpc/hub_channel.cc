#include "core/rpc/hub_channel.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/limits.h"

namespace cairn {
namespace {

// What Explain() begins the message of a connection that never came about
// with; gRPC's own text for that begins with kRefused.
constexpr absl::string_view kUnreachable = "cannot reach the hub at ";
constexpr absl::string_view kRefused = "failed to connect to all addresses";

// TLS libraries word it differently; kUntrusted is our own word for it.
constexpr absl::string_view kUntrusted = "CERTIFICATE_VERIFY_FAILED";

// How soon a sleeper notices that it is to stop.
constexpr absl::Duration kStopInterval = absl::Milliseconds(100);

bool IsUntrustedPeer(const absl::Status& status) {
  const absl::string_view text = status.message();
  return absl::StrContains(text, kUntrusted) ||
         absl::StrContains(text, "certificate verify failed") ||
         absl::StrContains(text, "is not in peer certificate");
}

bool WasNeverSent(const absl::Status& status) {
  return absl::StartsWith(status.message(), kUnreachable) ||
         absl::IsResourceExhausted(status);
}

bool MayRepeat(const absl::Status& status, Retry retry) {
  switch (retry) {
    case Retry::kIdempotent:
      return IsTransient(status);
    case Retry::kUnsent:
      return IsTransient(status) && WasNeverSent(status);
    case Retry::kNever:
      return false;
  }
  return false;
}

// gRPC's failures in words that say what to do.
absl::Status Explain(absl::Status status, const std::string& address) {
  if (IsUntrustedPeer(status)) {
    return absl::UnavailableError(absl::StrCat(
        kUnreachable, address,
        ": its certificate is not for this address or not signed by the CA of "
        "this home (",
        kUntrusted, "); take the hub's own CA with `cairn init --hub ", address,
        " --ca FILE`"));
  }
  if (absl::IsUnavailable(status) &&
      absl::StartsWith(status.message(), kRefused)) {
    return absl::UnavailableError(absl::StrCat(
        kUnreachable, address, absl::StripPrefix(status.message(), kRefused),
        "; is cairnd running there?"));
  }
  if (absl::IsDeadlineExceeded(status)) {
    return absl::DeadlineExceededError(
        absl::StrCat("the hub at ", address, " did not answer in time"));
  }
  return status;
}

// A connection that breaks under a call shows in several codes.
bool IsBrokenConnection(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::CANCELLED:
      return true;
    case grpc::StatusCode::UNKNOWN:
      return absl::StrContains(status.error_message(), "Stream removed");
    case grpc::StatusCode::INTERNAL:
      return absl::StrContains(status.error_message(), "RST_STREAM");
    default:
      return false;
  }
}

std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(
    HubAddress::Security security, const std::string& ca_pem) {
  if (security == HubAddress::Security::kPlain) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = ca_pem;
  return grpc::SslCredentials(tls);
}

std::shared_ptr<grpc::Channel> MakeChannel(const HubAddress& address,
                                           const std::string& ca_pem) {
  grpc::ChannelArguments arguments;
  // A connection of its own, so that a broken one is never shared.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // In spite of its name this is how long one attempt to connect may take; a
  // busy machine needs seconds for a TLS handshake.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kFrameBytesMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(
      address.target, MakeCredentials(address.security, ca_pem), arguments);
}

}  // namespace

HubChannel::HubChannel(Options options, HubAddress target)
    : options_(std::move(options)),
      target_(std::move(target)),
      channel_(MakeChannel(target_, options_.ca_pem)) {}

absl::StatusOr<std::unique_ptr<HubChannel>> HubChannel::Create(
    Options options) {
  for (char c : options.token) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(
          "the token holds a character that is not printable ASCII; it must "
          "be the text that `cairn admin token create` printed");
    }
  }
  CAIRN_ASSIGN_OR_RETURN(HubAddress target, ParseHubAddress(options.address));
  return std::unique_ptr<HubChannel>(
      new HubChannel(std::move(options), std::move(target)));
}

std::shared_ptr<grpc::Channel> HubChannel::Lane(int index) {
  if (index == 0) return channel_;
  MutexLock lock(mutex_);
  auto& lane = lanes_[index];
  if (lane == nullptr) lane = MakeChannel(target_, options_.ca_pem);
  return lane;
}

absl::Status HubChannel::Run(
    const CallOptions& options,
    absl::FunctionRef<grpc::Status(grpc::ClientContext&)> attempt) {
  const absl::Time end = absl::Now() + options.patience;
  Backoff backoff;
  while (true) {
    absl::Status status = RunOnce(options.deadline, attempt);
    if (status.ok() || !MayRepeat(status, options.retry)) return status;
    absl::Duration delay = backoff.Next(status);
    if (absl::Now() + delay > end) return status;
    CAIRN_RETURN_IF_ERROR(Sleep(delay));
  }
}

absl::Status HubChannel::RunOnce(
    absl::Duration deadline,
    absl::FunctionRef<grpc::Status(grpc::ClientContext&)> attempt) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
  if (!options_.token.empty()) {
    context.AddMetadata("authorization",
                        absl::StrCat("Bearer ", options_.token));
  }
  std::stop_callback cancel(options_.stop, [&context] { context.TryCancel(); });
  if (options_.stop.stop_requested()) {
    return absl::CancelledError("interrupted");
  }
  const grpc::Status told = attempt(context);
  if (told.ok()) return absl::OkStatus();
  if (options_.stop.stop_requested()) {
    return absl::CancelledError("interrupted");
  }
  if (IsBrokenConnection(told)) {
    return absl::UnavailableError(
        absl::StrCat("the connection to the hub at ", options_.address,
                     " broke: ", told.error_message()));
  }
  return Explain(FromGrpcStatus(told), options_.address);
}

// A connection makes progress only while some thread polls it, and calls fail
// at once, without polling, until it is ready again. So a wait between calls
// polls: without it a hub that came back would never be reached.
absl::Status HubChannel::Sleep(absl::Duration duration) {
  const absl::Time end = absl::Now() + duration;
  const bool was_ready = channel_->GetState(true) == GRPC_CHANNEL_READY;
  while (!options_.stop.stop_requested()) {
    const absl::Time now = absl::Now();
    const grpc_connectivity_state state = channel_->GetState(true);
    if (now >= end || (!was_ready && state == GRPC_CHANNEL_READY)) {
      return absl::OkStatus();
    }
    channel_->WaitForStateChange(
        state, absl::ToChronoTime(std::min(end, now + kStopInterval)));
  }
  return absl::CancelledError("interrupted");
}

absl::Duration Backoff::Next(const absl::Status& failure) {
  const absl::Duration whole = std::min(
      absl::Milliseconds(100) * (1 << std::min(step_++, 10)), absl::Seconds(3));
  absl::BitGen random;
  const absl::Duration delay = whole * absl::Uniform(random, 0.5, 1.0);
  const std::optional<absl::Duration> asked = GetRetryDelay(failure);
  if (!asked.has_value()) return delay;
  return std::max(delay, *asked * absl::Uniform(random, 1.0, 1.5));
}

bool IsTransient(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) {
    return GetRetryDelay(status).has_value();
  }
  return absl::IsUnavailable(status) && !IsUntrustedPeer(status);
}

}  // namespace cairn
