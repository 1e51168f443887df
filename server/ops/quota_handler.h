#ifndef CAIRN_SERVER_OPS_QUOTA_HANDLER_H_
#define CAIRN_SERVER_OPS_QUOTA_HANDLER_H_

#include <utility>

#include "cairn/v1/quota.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/flow/hub_store.h"
#include "server/flow/quota.h"

namespace cairn {

// The QuotaService RPCs. Everything given must outlive the server that it is
// registered with.
class QuotaHandler : public v1::QuotaService::CallbackService {
 public:
  QuotaHandler(HubStore& store, QuotaDefaults defaults, CallEnvironment calls)
      : store_(store), defaults_(std::move(defaults)), calls_(calls) {}

  grpc::ServerUnaryReactor* GetQuota(grpc::CallbackServerContext* context,
                                     const v1::GetQuotaRequest* request,
                                     v1::Quota* response) override;
  grpc::ServerUnaryReactor* UpdateQuota(grpc::CallbackServerContext* context,
                                        const v1::UpdateQuotaRequest* request,
                                        v1::Quota* response) override;

  // What the RPCs do, for tests.
  absl::StatusOr<v1::Quota> Get(const Caller& caller,
                                const v1::GetQuotaRequest& request) const;
  absl::StatusOr<v1::Quota> Update(const Caller& caller,
                                   const v1::UpdateQuotaRequest& request);

 private:
  HubStore& store_;
  const QuotaDefaults defaults_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_QUOTA_HANDLER_H_
