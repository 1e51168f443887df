#include "server/ops/hub_handler.h"

namespace cairn {

grpc::ServerUnaryReactor* HubHandler::GetHub(
    grpc::CallbackServerContext* context, const v1::GetHubRequest* /*request*/,
    v1::Hub* response) {
  *response = hub_;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace cairn
