#ifndef CAIRN_TESTS_INTEGRATION_LOCAL_SERVER_H_
#define CAIRN_TESTS_INTEGRATION_LOCAL_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "core/rpc/hub_channel.h"

namespace cairn::testing {

// Services behind real TLS on a free port of this machine.
class LocalServer {
 public:
  // The services must outlive it.
  explicit LocalServer(const std::vector<grpc::Service*>& services);
  ~LocalServer();

  const std::string& address() const { return address_; }
  // Certificate of the authority that signed the server's, PEM.
  const std::string& ca() const { return ca_; }

  std::unique_ptr<HubChannel> Connect(std::stop_token stop = {}) const;

 private:
  std::string ca_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_INTEGRATION_LOCAL_SERVER_H_
