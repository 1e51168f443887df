#ifndef CAIRN_SERVER_OPS_STORE_CHECK_H_
#define CAIRN_SERVER_OPS_STORE_CHECK_H_

#include "absl/status/statusor.h"
#include "cairn/v1/identity.pb.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// How thoroughly blobs are looked at.
enum class BlobCheck {
  kPresence,  // there, and as long as the record says
  kContent,   // also read whole and hashed
};

// Looks at one consistent state of the store: every record can be read, what
// it refers to exists, its etag-bearing resource is where its name says, and
// every blob that a record needs is there and not known to be damaged; damage
// is said of every record that needs the blob. Changes nothing. An error is
// only returned when the check itself could not be made; what is wrong is in
// `problems`, at most 1,000.
absl::StatusOr<v1::CheckResponse> CheckStore(const HubReader& reader,
                                             const BlobStore& blobs,
                                             BlobCheck how);

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_STORE_CHECK_H_
