#ifndef CAIRN_SERVER_SUITE_SUITE_CATALOG_H_
#define CAIRN_SERVER_SUITE_SUITE_CATALOG_H_

#include "absl/status/statusor.h"
#include "cairn/v1/suite.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// The held-out suites of models. A suite is CHECKING when it was added and
// becomes ACTIVE once a worker has scored the base on it. Checks permissions
// itself. Thread-safe.
class SuiteCatalog {
 public:
  // Both must outlive it.
  SuiteCatalog(HubStore& store, BlobStore& blobs)
      : store_(store), blobs_(blobs) {}

  // Checks the uploaded directory whole (ReadSuite) and adds it as the next
  // version. The same files with the same settings as the newest version are
  // success and change nothing.
  absl::StatusOr<v1::Suite> Add(const Caller& caller,
                                const v1::AddSuiteRequest& request);
  absl::StatusOr<v1::Suite> Get(const Caller& caller,
                                const v1::GetSuiteRequest& request) const;
  // The newest version of each; suites of one model are few, so the first
  // page has all.
  absl::StatusOr<v1::ListSuitesResponse> List(
      const Caller& caller, const v1::ListSuitesRequest& request) const;

 private:
  HubStore& store_;
  BlobStore& blobs_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_SUITE_SUITE_CATALOG_H_
