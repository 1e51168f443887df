#ifndef CAIRN_SERVER_OPS_HUB_HANDLER_H_
#define CAIRN_SERVER_OPS_HUB_HANDLER_H_

#include <utility>

#include "cairn/v1/hub.grpc.pb.h"

namespace cairn {

// The HubService RPC: says what the hub is, to anybody.
class HubHandler : public v1::HubService::CallbackService {
 public:
  explicit HubHandler(v1::Hub hub) : hub_(std::move(hub)) {}

  grpc::ServerUnaryReactor* GetHub(grpc::CallbackServerContext* context,
                                   const v1::GetHubRequest* request,
                                   v1::Hub* response) override;

 private:
  const v1::Hub hub_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_HUB_HANDLER_H_
