#ifndef CAIRN_SERVER_RELEASE_MODEL_CATALOG_H_
#define CAIRN_SERVER_RELEASE_MODEL_CATALOG_H_

#include <functional>

#include "absl/status/statusor.h"
#include "cairn/v1/model.pb.h"
#include "core/tensor/byte_source.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/release/checkpoint_import.h"
#include "server/release/release_signer.h"
#include "storage/blob_store.h"

namespace cairn {

// Models and their policies. Checks permissions itself. Thread-safe.
class ModelCatalog {
 public:
  // All must outlive it.
  ModelCatalog(HubStore& store, BlobStore& blobs, const ReleaseSigner& signer)
      : store_(store), blobs_(blobs), signer_(signer) {}

  // Checks the uploaded checkpoint whole and makes it release v1.0.0, with
  // the tags latest and stable. The same checkpoint by the same user again is
  // success, also under another request id; anything else under a name that
  // is taken is ALREADY_EXISTS.
  absl::StatusOr<v1::Model> Create(const Caller& caller,
                                   const v1::CreateModelRequest& request);
  // The same with the files of a directory that the caller may import from;
  // `message` is the request as it came, for its request id.
  absl::StatusOr<v1::Model> Import(const Caller& caller,
                                   const v1::CreateModelRequest& request,
                                   const google::protobuf::Message& message,
                                   const FileMap& files);
  absl::StatusOr<v1::Model> Get(const Caller& caller,
                                const v1::GetModelRequest& request) const;
  // Those that the caller may read.
  absl::StatusOr<v1::ListModelsResponse> List(
      const Caller& caller, const v1::ListModelsRequest& request) const;
  // Replaces the policy; suites without an own margin get the new one.
  absl::StatusOr<v1::Model> SetPolicy(const Caller& caller,
                                      const v1::SetPolicyRequest& request);

 private:
  // How a request is remembered.
  struct Origin {
    absl::string_view method;
    const google::protobuf::Message& message;
  };
  // `load` brings the checkpoint in once all else was checked.
  absl::StatusOr<v1::Model> Make(
      const Caller& caller, const v1::CreateModelRequest& request,
      const Origin& origin,
      const std::function<absl::StatusOr<CheckpointFiles>(const HubReader&)>&
          load);

  HubStore& store_;
  BlobStore& blobs_;
  const ReleaseSigner& signer_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_MODEL_CATALOG_H_
