#include "tests/integration/local_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/log.h"
#include "server/setup/certificate_authority.h"

namespace cairn::testing {

LocalServer::LocalServer(const std::vector<grpc::Service*>& services) {
  const absl::Time start = absl::Now() - absl::Hours(1);
  auto authority = MakeAuthority("test", start, absl::Hours(2));
  CAIRN_CHECK(authority.ok());
  auto certificate =
      MakeServerCertificate(*authority, {"127.0.0.1"}, start, absl::Hours(2));
  CAIRN_CHECK(certificate.ok());
  ca_ = authority->certificate;
  grpc::SslServerCredentialsOptions tls;
  tls.pem_key_cert_pairs.push_back(
      {certificate->key, certificate->certificate});
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(tls),
                           &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  server_ = builder.BuildAndStart();
  CAIRN_CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

LocalServer::~LocalServer() { server_->Shutdown(); }

std::unique_ptr<HubChannel> LocalServer::Connect(std::stop_token stop) const {
  auto hub = HubChannel::Create({.address = address_,
                                 .ca_pem = ca_,
                                 .token = "token",
                                 .stop = std::move(stop)});
  CAIRN_CHECK(hub.ok());
  return *std::move(hub);
}

}  // namespace cairn::testing
