#include "server/ops/quota_handler.h"

#include <functional>
#include <string>

#include "core/base/status_macros.h"
#include "server/auth/permission.h"

namespace cairn {

absl::StatusOr<v1::Quota> QuotaHandler::Get(
    const Caller& caller, const v1::GetQuotaRequest& request) const {
  if (caller.is_anonymous()) {
    return absl::UnauthenticatedError(
        "quotas are those of an identity: give a token with --token-file or "
        "CAIRN_TOKEN");
  }
  const std::string name =
      request.name().empty() ? caller.user : request.name();
  const HubSnapshot reader = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(std::string own, OrganizationOf(reader, caller.user));
  if (name != caller.user && (own.empty() || name != own)) {
    CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kListUsers, ""));
  }
  return DescribeQuota(reader, defaults_, name, store_.clock().Now());
}

absl::StatusOr<v1::Quota> QuotaHandler::Update(
    const Caller& caller, const v1::UpdateQuotaRequest& request) {
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kManageUsers, ""));
  v1::Quota quota;
  absl::Status stored =
      store_.Transact([&](HubTransaction& transaction) -> absl::Status {
        CAIRN_RETURN_IF_ERROR(SetQuota(transaction, request));
        CAIRN_ASSIGN_OR_RETURN(
            quota, DescribeQuota(transaction, defaults_, request.name(),
                                 transaction.now()));
        return absl::OkStatus();
      });
  if (!stored.ok()) return stored;
  return quota;
}

grpc::ServerUnaryReactor* QuotaHandler::GetQuota(
    grpc::CallbackServerContext* context, const v1::GetQuotaRequest* request,
    v1::Quota* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&QuotaHandler::Get, this));
}

grpc::ServerUnaryReactor* QuotaHandler::UpdateQuota(
    grpc::CallbackServerContext* context, const v1::UpdateQuotaRequest* request,
    v1::Quota* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&QuotaHandler::Update, this));
}

}  // namespace cairn
