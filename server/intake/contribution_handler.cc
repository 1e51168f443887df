#include "server/intake/contribution_handler.h"

#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

Figures FiguresFor(const Caller& caller, absl::string_view model) {
  return Authorize(caller, Permission::kReview, model).ok() ? Figures::kExact
                                                            : Figures::kRounded;
}

}  // namespace

grpc::ServerUnaryReactor* ContributionHandler::CreateContribution(
    grpc::CallbackServerContext* context,
    const v1::CreateContributionRequest* request, v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::CreateContributionRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kPush, call.parent()));
        return intake_.Create(caller, call);
      });
}

grpc::ServerUnaryReactor* ContributionHandler::GetContribution(
    grpc::CallbackServerContext* context,
    const v1::GetContributionRequest* request, v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::GetContributionRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        const absl::string_view model = ModelOf(call.name());
        CAIRN_RETURN_IF_ERROR(
            AuthorizeRead(store_.Read(), caller, Permission::kRead, model));
        return intake_.Get(caller, call, FiguresFor(caller, model));
      });
}

grpc::ServerUnaryReactor* ContributionHandler::ListContributions(
    grpc::CallbackServerContext* context,
    const v1::ListContributionsRequest* request,
    v1::ListContributionsResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::ListContributionsRequest& call)
          -> absl::StatusOr<v1::ListContributionsResponse> {
        CAIRN_RETURN_IF_ERROR(AuthorizeRead(store_.Read(), caller,
                                            Permission::kRead, call.parent()));
        return intake_.List(caller, call, FiguresFor(caller, call.parent()));
      });
}

grpc::ServerUnaryReactor* ContributionHandler::WithdrawContribution(
    grpc::CallbackServerContext* context,
    const v1::WithdrawContributionRequest* request,
    v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::WithdrawContributionRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kPush, ModelOf(call.name())));
        return intake_.Withdraw(caller, call);
      });
}

}  // namespace cairn
