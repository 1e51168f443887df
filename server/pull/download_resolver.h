#ifndef CAIRN_SERVER_PULL_DOWNLOAD_RESOLVER_H_
#define CAIRN_SERVER_PULL_DOWNLOAD_RESOLVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/mutex.h"
#include "core/tensor/byte_source.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// What a request to read was found to name.
struct Download {
  std::unique_ptr<ByteSource> source;
  // Of the whole, hex.
  std::string sha256;
};

// OK when the caller holds the lease and it names the blob.
using CheckLease =
    std::function<absl::Status(const Caller&, const v1::LeasedBlob&)>;

// Finds the bytes that requests name, for those who may read them: release
// files and tensors for whoever may pull, files of a contribution for its
// author and reviewers, blobs of a job for the worker that holds its lease,
// what a suite shows for readers of its model.
// Thread-safe.
class DownloadResolver {
 public:
  // `store` and `blobs` must outlive it.
  DownloadResolver(HubStore& store, const BlobStore& blobs,
                   CheckLease check_lease);

  // NOT_FOUND for what does not exist, after permission was checked;
  // DATA_LOSS when a record names a blob that is missing.
  absl::StatusOr<Download> Resolve(const Caller& caller,
                                   const v1::ReadRequest& request) const;

 private:
  using TensorBlobs = std::map<std::string, v1::Tensor, std::less<>>;

  absl::StatusOr<Download> ReleaseFile(const Caller& caller,
                                       const v1::ReleaseFile& named) const;
  absl::StatusOr<Download> ReleaseTensor(const Caller& caller,
                                         const v1::ReleaseTensor& named) const;
  absl::StatusOr<Download> ContributionFile(
      const Caller& caller, const v1::ContributionFile& named) const;
  absl::StatusOr<Download> ReleaseDelta(const Caller& caller,
                                        const v1::ReleaseDelta& named) const;
  absl::StatusOr<Download> LeasedBlob(const Caller& caller,
                                      const v1::LeasedBlob& named) const;
  absl::StatusOr<Download> SuiteFile(const Caller& caller,
                                     const v1::SuiteFile& named) const;
  // A blob that a record names.
  absl::StatusOr<Download> NamedBlob(absl::string_view label,
                                     absl::string_view sha256,
                                     int64_t size_bytes) const;
  absl::StatusOr<std::shared_ptr<const TensorBlobs>> Tensors(
      const std::string& manifest_sha256) const;

  HubStore& store_;
  const BlobStore& blobs_;
  const CheckLease check_lease_;
  mutable Mutex mutex_;
  // The tensor manifest asked for last, shared with the calls that use it:
  // clients read many tensors of a release one after the other.
  mutable std::string manifest_sha256_ ABSL_GUARDED_BY(mutex_);
  mutable std::shared_ptr<const TensorBlobs> tensors_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_PULL_DOWNLOAD_RESOLVER_H_
