#ifndef CAIRN_SERVER_QUEUE_BATCH_HANDLER_H_
#define CAIRN_SERVER_QUEUE_BATCH_HANDLER_H_

#include "cairn/v1/batch.grpc.pb.h"
#include "cairn/v1/queue.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/flow/hub_store.h"
#include "server/queue/batch_service.h"

namespace cairn {

// The BatchService RPCs: permission first, then the service. Everything given
// must outlive the server that it is registered with.
class BatchHandler : public v1::BatchService::CallbackService {
 public:
  BatchHandler(HubStore& store, BatchService& batches, CallEnvironment calls)
      : store_(store), batches_(batches), calls_(calls) {}

  grpc::ServerUnaryReactor* StartBatch(grpc::CallbackServerContext* context,
                                       const v1::StartBatchRequest* request,
                                       v1::Batch* response) override;
  grpc::ServerUnaryReactor* GetBatch(grpc::CallbackServerContext* context,
                                     const v1::GetBatchRequest* request,
                                     v1::Batch* response) override;
  grpc::ServerUnaryReactor* ListBatches(
      grpc::CallbackServerContext* context,
      const v1::ListBatchesRequest* request,
      v1::ListBatchesResponse* response) override;

 private:
  HubStore& store_;
  BatchService& batches_;
  const CallEnvironment calls_;
};

// The QueueService RPCs. Move is not offered yet: UNIMPLEMENTED.
class QueueHandler : public v1::QueueService::CallbackService {
 public:
  QueueHandler(HubStore& store, BatchService& batches, CallEnvironment calls)
      : store_(store), batches_(batches), calls_(calls) {}

  grpc::ServerUnaryReactor* ListQueue(grpc::CallbackServerContext* context,
                                      const v1::ListQueueRequest* request,
                                      v1::ListQueueResponse* response) override;
  grpc::ServerUnaryReactor* Hold(grpc::CallbackServerContext* context,
                                 const v1::QueueEditRequest* request,
                                 v1::Contribution* response) override;
  grpc::ServerUnaryReactor* Unhold(grpc::CallbackServerContext* context,
                                   const v1::QueueEditRequest* request,
                                   v1::Contribution* response) override;

 private:
  HubStore& store_;
  BatchService& batches_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_BATCH_HANDLER_H_
