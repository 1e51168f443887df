#ifndef CAIRN_SERVER_RELEASE_RELEASE_PUBLISHER_H_
#define CAIRN_SERVER_RELEASE_RELEASE_PUBLISHER_H_

#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/release/release_signer.h"
#include "storage/blob_store.h"

namespace cairn {

// Turns a batch's candidate into a signed release: see Publisher. Files are
// views: a safetensors file keeps its header blob and gets the candidate's
// tensor blobs; every other file is the parent's. Thread-safe.
class ReleasePublisher : public Publisher {
 public:
  // All must outlive it.
  ReleasePublisher(HubStore& store, BlobStore& blobs,
                   const ReleaseSigner& signer)
      : store_(store), blobs_(blobs), signer_(signer) {}

  absl::StatusOr<store::v1::ReleaseRecord> Build(
      const Publication& publication) override;
  absl::Status Commit(HubTransaction& transaction,
                      const Publication& publication,
                      store::v1::ReleaseRecord release) override;

 private:
  HubStore& store_;
  BlobStore& blobs_;
  const ReleaseSigner& signer_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_PUBLISHER_H_
