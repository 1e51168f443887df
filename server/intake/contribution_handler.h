#ifndef CAIRN_SERVER_INTAKE_CONTRIBUTION_HANDLER_H_
#define CAIRN_SERVER_INTAKE_CONTRIBUTION_HANDLER_H_

#include "cairn/v1/contribution.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/flow/hub_store.h"
#include "server/intake/contribution_intake.h"

namespace cairn {

// The ContributionService RPCs: permission first, then the intake. Reviewers
// see exact figures, everybody else rounded ones. Everything given must
// outlive the server that it is registered with.
class ContributionHandler : public v1::ContributionService::CallbackService {
 public:
  ContributionHandler(HubStore& store, ContributionIntake& intake,
                      CallEnvironment calls)
      : store_(store), intake_(intake), calls_(calls) {}

  grpc::ServerUnaryReactor* CreateContribution(
      grpc::CallbackServerContext* context,
      const v1::CreateContributionRequest* request,
      v1::Contribution* response) override;
  grpc::ServerUnaryReactor* GetContribution(
      grpc::CallbackServerContext* context,
      const v1::GetContributionRequest* request,
      v1::Contribution* response) override;
  grpc::ServerUnaryReactor* ListContributions(
      grpc::CallbackServerContext* context,
      const v1::ListContributionsRequest* request,
      v1::ListContributionsResponse* response) override;
  grpc::ServerUnaryReactor* WithdrawContribution(
      grpc::CallbackServerContext* context,
      const v1::WithdrawContributionRequest* request,
      v1::Contribution* response) override;

 private:
  HubStore& store_;
  ContributionIntake& intake_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_CONTRIBUTION_HANDLER_H_
