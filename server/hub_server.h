#ifndef CAIRN_SERVER_HUB_SERVER_H_
#define CAIRN_SERVER_HUB_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "server/config/hub_config.h"

namespace cairn {

// The hub: the only place that knows all its parts. Opens the stores of a data
// directory, builds services, handlers and stages, and serves gRPC over TLS,
// if wanted without it on this machine, and plain HTTP until it is stopped. Start and Stop are for one thread.
class HubServer {
 public:
  struct Options {
    std::string data_dir;
    HubConfig config = {};
    // Must outlive the server.
    Clock* clock = &Clock::System();
  };

  // Serves when it returns. NOT_FOUND when `data_dir` was not made by `cairnd
  // init`; FAILED_PRECONDITION when another cairnd serves it; UNAVAILABLE when
  // an address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HubServer>> Start(Options options);
  // As Stop().
  ~HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;

  // HOST:PORT with the real ports.
  const std::string& grpc_address() const;
  const std::string& http_address() const;
  // Where clients of this machine find it without TLS, as they write it:
  // http://HOST:PORT or unix:/PATH; empty when there is none.
  const std::string& plain_address() const;
  // The file of the certificate authority that clients trust.
  const std::string& ca_path() const;

  // Drains: reports not serving, lets the passes of stages end, and calls in
  // flight for up to `drain_timeout`, then ends the rest. Whatever was
  // acknowledged is durable.
  void Stop();

 private:
  class Parts;
  explicit HubServer(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_HUB_SERVER_H_
