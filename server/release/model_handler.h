#ifndef CAIRN_SERVER_RELEASE_MODEL_HANDLER_H_
#define CAIRN_SERVER_RELEASE_MODEL_HANDLER_H_

#include "cairn/v1/model.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/release/model_catalog.h"

namespace cairn {

// The ModelService RPCs. Everything given must outlive the server that it is
// registered with.
class ModelHandler : public v1::ModelService::CallbackService {
 public:
  ModelHandler(ModelCatalog& models, CallEnvironment calls)
      : models_(models), calls_(calls) {}

  grpc::ServerUnaryReactor* CreateModel(grpc::CallbackServerContext* context,
                                        const v1::CreateModelRequest* request,
                                        v1::Model* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* ListModels(
      grpc::CallbackServerContext* context,
      const v1::ListModelsRequest* request,
      v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* SetPolicy(grpc::CallbackServerContext* context,
                                      const v1::SetPolicyRequest* request,
                                      v1::Model* response) override;

 private:
  ModelCatalog& models_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_MODEL_HANDLER_H_
