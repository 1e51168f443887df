#ifndef CAIRN_CORE_RPC_HUB_CHANNEL_H_
#define CAIRN_CORE_RPC_HUB_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/rpc/hub_address.h"

namespace cairn {

// Which failures of a call are tried again.
enum class Retry {
  // Every failure to reach the hub: repeating the call is harmless, because
  // it reads or carries a request_id.
  kIdempotent,
  // Only failures to connect, which prove that nothing was sent.
  kUnsent,
  // None.
  kNever,
};

// How one call is made.
struct CallOptions {
  // For one attempt.
  absl::Duration deadline = absl::Seconds(30);
  Retry retry = Retry::kIdempotent;
  // How long UNAVAILABLE is tried again before it is reported.
  absl::Duration patience = absl::Seconds(25);
};

// A client's connection to a hub: TLS, or none on the hub's own machine; bearer
// token, deadlines, retries with backoff and jitter. Thread-safe. A stop request ends calls in flight with
// CANCELLED.
class HubChannel {
 public:
  struct Options {
    // As ParseHubAddress() takes it.
    std::string address;
    // Certificates of the authority that signed the hub's, PEM; for TLS.
    std::string ca_pem;
    // Sent as "authorization: Bearer <token>"; empty: anonymous.
    std::string token;
    // Ends every call when it is requested.
    std::stop_token stop;
  };

  // Connects lazily, so this never waits. INVALID_ARGUMENT for an address that
  // is none, or would send the token in the clear, and for a token that cannot
  // travel in a header.
  static absl::StatusOr<std::unique_ptr<HubChannel>> Create(Options options);

  // auto model = hub.Call(&ModelService::Stub::GetModel, request);
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request, const CallOptions& options = {}) {
    Stub stub(channel_);
    Response response;
    absl::Status status =
        Run(options, [&](grpc::ClientContext& context) -> grpc::Status {
          return (stub.*method)(&context, request, &response);
        });
    if (!status.ok()) return status;
    return response;
  }

  // Makes attempts until one succeeds, fails for good, or patience ends. Each
  // gets a context with credentials and a deadline.
  absl::Status Run(
      const CallOptions& options,
      absl::FunctionRef<grpc::Status(grpc::ClientContext&)> attempt);

  // One attempt; streams that resume by themselves use it.
  absl::Status RunOnce(
      absl::Duration deadline,
      absl::FunctionRef<grpc::Status(grpc::ClientContext&)> attempt);

  // Waits, less long when the connection comes back meanwhile; CANCELLED when a
  // stop is requested.
  absl::Status Sleep(absl::Duration duration);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // Lane 0 is channel(); each other one a connection of its own, made when it
  // is first asked for, for streams that share the work.
  std::shared_ptr<grpc::Channel> Lane(int index);
  const std::stop_token& stop() const { return options_.stop; }
  const std::string& address() const { return options_.address; }

 private:
  HubChannel(Options options, HubAddress target);

  const Options options_;
  const HubAddress target_;
  const std::shared_ptr<grpc::Channel> channel_;
  Mutex mutex_;
  std::map<int, std::shared_ptr<grpc::Channel>> lanes_ ABSL_GUARDED_BY(mutex_);
};

// Delays between attempts: from 0.1 s doubling to 3 s, each between half and
// the whole of that, or what the hub asked for and up to half more if that is
// longer: those that were refused together do not come back together.
class Backoff {
 public:
  absl::Duration Next(const absl::Status& failure);
  void Reset() { step_ = 0; }

 private:
  int step_ = 0;
};

// True for failures to reach the hub or to be served by it now, which another
// attempt may cure; false for a hub whose certificate does not verify.
bool IsTransient(const absl::Status& status);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_HUB_CHANNEL_H_
