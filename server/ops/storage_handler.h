#ifndef CAIRN_SERVER_OPS_STORAGE_HANDLER_H_
#define CAIRN_SERVER_OPS_STORAGE_HANDLER_H_

#include <cstdint>
#include <functional>

#include "cairn/v1/storage.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// The StorageService RPCs. Everything given must outlive the server that it is
// registered with.
class StorageHandler : public v1::StorageService::CallbackService {
 public:
  struct Space {
    std::function<absl::StatusOr<int64_t>()> free_bytes;
    int64_t reserve_bytes = 0;
  };
  using MakeBackup =
      std::function<absl::StatusOr<v1::BackupReport>(const v1::BackupRequest&)>;

  StorageHandler(HubStore& store, const BlobStore& blobs, Space space,
                 MakeBackup make_backup, CallEnvironment calls)
      : store_(store),
        blobs_(blobs),
        space_(std::move(space)),
        make_backup_(std::move(make_backup)),
        calls_(calls) {}

  grpc::ServerUnaryReactor* GetStorageStats(
      grpc::CallbackServerContext* context,
      const v1::GetStorageStatsRequest* request,
      v1::StorageStats* response) override;
  grpc::ServerUnaryReactor* Backup(grpc::CallbackServerContext* context,
                                   const v1::BackupRequest* request,
                                   v1::BackupReport* response) override;

 private:
  absl::StatusOr<v1::StorageStats> CountAll() const;

  HubStore& store_;
  const BlobStore& blobs_;
  const Space space_;
  const MakeBackup make_backup_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_STORAGE_HANDLER_H_
