#include "server/ops/storage_handler.h"

#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/ops/store_stats.h"

namespace cairn {

absl::StatusOr<v1::StorageStats> StorageHandler::CountAll() const {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(v1::StorageStats stats, CountStore(snapshot, blobs_));
  CAIRN_ASSIGN_OR_RETURN(*stats.mutable_scrub(), DescribeScrub(snapshot));
  CAIRN_ASSIGN_OR_RETURN(int64_t free_bytes, space_.free_bytes());
  stats.set_free_bytes(free_bytes);
  stats.set_reserve_bytes(space_.reserve_bytes);
  return stats;
}

grpc::ServerUnaryReactor* StorageHandler::GetStorageStats(
    grpc::CallbackServerContext* context,
    const v1::GetStorageStatsRequest* request, v1::StorageStats* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::GetStorageStatsRequest&)
          -> absl::StatusOr<v1::StorageStats> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kCheckStore, ""));
        return CountAll();
      });
}

grpc::ServerUnaryReactor* StorageHandler::Backup(
    grpc::CallbackServerContext* context, const v1::BackupRequest* request,
    v1::BackupReport* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::BackupRequest& wanted)
          -> absl::StatusOr<v1::BackupReport> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kBackup, ""));
        return make_backup_(wanted);
      });
}

}  // namespace cairn
