#ifndef CAIRN_SERVER_OPS_CARE_TABLES_H_
#define CAIRN_SERVER_OPS_CARE_TABLES_H_

#include <string>

#include "cairn/store/v1/care.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

inline constexpr absl::string_view kScrubName = "scrub";

// One record, under kScrubName.
template <>
struct Table<store::v1::ScrubRecord> {
  static constexpr absl::string_view kPrefix = "scrub/";
  static std::string Name(const store::v1::ScrubRecord&) {
    return std::string(kScrubName);
  }
};

// Stored under the blob's SHA-256.
template <>
struct Table<store::v1::DamagedBlobRecord> {
  static constexpr absl::string_view kPrefix = "damaged_blob/";
  static std::string Name(const store::v1::DamagedBlobRecord& r) {
    return r.blob().sha256();
  }
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_CARE_TABLES_H_
