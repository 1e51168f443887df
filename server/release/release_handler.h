#ifndef CAIRN_SERVER_RELEASE_RELEASE_HANDLER_H_
#define CAIRN_SERVER_RELEASE_RELEASE_HANDLER_H_

#include "cairn/v1/release.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/release/release_catalog.h"

namespace cairn {

// The ReleaseService RPCs. Everything given must outlive the server that it is
// registered with.
class ReleaseHandler : public v1::ReleaseService::CallbackService {
 public:
  ReleaseHandler(ReleaseCatalog& releases, CallEnvironment calls)
      : releases_(releases), calls_(calls) {}

  grpc::ServerUnaryReactor* GetRelease(grpc::CallbackServerContext* context,
                                       const v1::GetReleaseRequest* request,
                                       v1::Release* response) override;
  grpc::ServerUnaryReactor* ListReleases(
      grpc::CallbackServerContext* context,
      const v1::ListReleasesRequest* request,
      v1::ListReleasesResponse* response) override;
  grpc::ServerUnaryReactor* MatchRelease(grpc::CallbackServerContext* context,
                                         const v1::MatchReleaseRequest* request,
                                         v1::Release* response) override;
  grpc::ServerUnaryReactor* StartReplay(grpc::CallbackServerContext* context,
                                        const v1::StartReplayRequest* request,
                                        v1::Replay* response) override;
  grpc::ServerUnaryReactor* GetReplay(grpc::CallbackServerContext* context,
                                      const v1::GetReplayRequest* request,
                                      v1::Replay* response) override;
  grpc::ServerUnaryReactor* YankRelease(grpc::CallbackServerContext* context,
                                        const v1::YankReleaseRequest* request,
                                        v1::Release* response) override;
  grpc::ServerUnaryReactor* RevertContribution(
      grpc::CallbackServerContext* context,
      const v1::RevertContributionRequest* request,
      v1::Batch* response) override;
  grpc::ServerUnaryReactor* RequestDelta(grpc::CallbackServerContext* context,
                                         const v1::RequestDeltaRequest* request,
                                         v1::Delta* response) override;

 private:
  ReleaseCatalog& releases_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_HANDLER_H_
