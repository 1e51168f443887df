#ifndef CAIRN_SERVER_RELEASE_LOCAL_EXCHANGE_H_
#define CAIRN_SERVER_RELEASE_LOCAL_EXCHANGE_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "cairn/v1/exchange.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/release/model_catalog.h"
#include "storage/blob_store.h"

namespace cairn {

// Checkpoints in and out through a directory of the hub's machine. Whoever may
// manage models may have the hub read and write below `root`, and nowhere
// else, symbolic links followed. Checks permissions itself. Thread-safe.
class LocalExchange {
 public:
  // All must outlive it. An empty `root` refuses everything.
  LocalExchange(HubStore& store, const BlobStore& blobs, ModelCatalog& models,
                std::string root)
      : store_(store), blobs_(blobs), models_(models), root_(std::move(root)) {}

  // Makes a model of a directory. FAILED_PRECONDITION without a root;
  // PERMISSION_DENIED for what lies outside it; else as ModelCatalog::Create.
  absl::StatusOr<v1::ImportModelResponse> Import(
      const Caller& caller, const v1::ImportModelRequest& request);
  // Writes a release's files into a directory, which gets its name once all
  // are complete, compared with their digests, and durable. ALREADY_EXISTS
  // when it is there and not empty; DATA_LOSS naming what is damaged.
  absl::StatusOr<v1::ExportReleaseResponse> Export(
      const Caller& caller, const v1::ExportReleaseRequest& request) const;

 private:
  // The real path of `directory`, which lies below the root.
  absl::StatusOr<std::string> Resolve(const std::string& directory) const;

  HubStore& store_;
  const BlobStore& blobs_;
  ModelCatalog& models_;
  const std::string root_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_LOCAL_EXCHANGE_H_
