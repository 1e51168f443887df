#ifndef CAIRN_SERVER_JOBS_WORKER_HANDLER_H_
#define CAIRN_SERVER_JOBS_WORKER_HANDLER_H_

#include "cairn/v1/worker.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/jobs/job_queue.h"

namespace cairn {

// The WorkerService RPCs over the job queue; LeaseJob is a long poll that
// holds no thread while it waits. Everything given must outlive the server
// that it is registered with.
class WorkerHandler : public v1::WorkerService::CallbackService {
 public:
  WorkerHandler(JobQueue& jobs, CallEnvironment calls)
      : jobs_(jobs), calls_(calls) {}

  grpc::ServerUnaryReactor* OpenSession(grpc::CallbackServerContext* context,
                                        const v1::OpenSessionRequest* request,
                                        v1::Session* response) override;
  grpc::ServerUnaryReactor* LeaseJob(grpc::CallbackServerContext* context,
                                     const v1::LeaseJobRequest* request,
                                     v1::LeaseJobResponse* response) override;
  grpc::ServerUnaryReactor* Heartbeat(grpc::CallbackServerContext* context,
                                      const v1::HeartbeatRequest* request,
                                      v1::HeartbeatResponse* response) override;
  grpc::ServerUnaryReactor* CompleteJob(
      grpc::CallbackServerContext* context,
      const v1::CompleteJobRequest* request,
      v1::CompleteJobResponse* response) override;

 private:
  JobQueue& jobs_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_JOBS_WORKER_HANDLER_H_
