#ifndef CAIRN_SERVER_OPS_STORE_STATS_H_
#define CAIRN_SERVER_OPS_STORE_STATS_H_

#include "absl/status/statusor.h"
#include "cairn/v1/storage.pb.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// Counts every blob and what needs it, as StorageStats says; space is left
// out. Memory grows with the number of blobs, some 100 bytes each.
absl::StatusOr<v1::StorageStats> CountStore(const HubReader& reader,
                                            const BlobStore& blobs);

// What the scrub says of itself.
absl::StatusOr<v1::ScrubState> DescribeScrub(const HubReader& reader);

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_STORE_STATS_H_
