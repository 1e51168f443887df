#ifndef CAIRN_SERVER_RELEASE_EXCHANGE_HANDLER_H_
#define CAIRN_SERVER_RELEASE_EXCHANGE_HANDLER_H_

#include "cairn/v1/exchange.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/release/local_exchange.h"

namespace cairn {

// The ExchangeService RPCs. Everything given must outlive the server that it
// is registered with.
class ExchangeHandler : public v1::ExchangeService::CallbackService {
 public:
  ExchangeHandler(LocalExchange& exchange, CallEnvironment calls)
      : exchange_(exchange), calls_(calls) {}

  grpc::ServerUnaryReactor* ImportModel(
      grpc::CallbackServerContext* context,
      const v1::ImportModelRequest* request,
      v1::ImportModelResponse* response) override;
  grpc::ServerUnaryReactor* ExportRelease(
      grpc::CallbackServerContext* context,
      const v1::ExportReleaseRequest* request,
      v1::ExportReleaseResponse* response) override;

 private:
  LocalExchange& exchange_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_EXCHANGE_HANDLER_H_
