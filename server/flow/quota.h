#ifndef CAIRN_SERVER_FLOW_QUOTA_H_
#define CAIRN_SERVER_FLOW_QUOTA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/quota.pb.h"
#include "cairn/v1/quota.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// Stored under users/U or organizations/O.
template <>
struct Table<store::v1::QuotaRecord> {
  static constexpr absl::string_view kPrefix = "quota/";
  static std::string Name(const store::v1::QuotaRecord& r) { return r.name(); }
};

// The same.
template <>
struct Table<store::v1::UsageRecord> {
  static constexpr absl::string_view kPrefix = "usage/";
  static std::string Name(const store::v1::UsageRecord& r) { return r.name(); }
};

// What those may use whom no administrator gave limits of their own; -1: no
// limit.
struct QuotaDefaults {
  v1::QuotaAmounts user;
  v1::QuotaAmounts organization;
};
// No limits at all.
QuotaDefaults NoQuota();

// The limits of `name` (users/U or organizations/O), what is used of them and
// what is left.
absl::StatusOr<v1::Quota> DescribeQuota(const HubReader& reader,
                                        const QuotaDefaults& defaults,
                                        absl::string_view name, absl::Time now);

// Sets limits and, for a user, the organisation, which from then on counts
// what the user keeps. INVALID_ARGUMENT for amounts below -1 and for names.
absl::Status SetQuota(HubTransaction& transaction,
                      const v1::UpdateQuotaRequest& request);

// RESOURCE_EXHAUSTED with QUOTA_EXCEEDED unless `user`, and its organisation,
// may store `more_bytes` beside what is stored and what open uploads announced.
absl::Status CheckStorage(const HubReader& reader,
                          const QuotaDefaults& defaults, absl::string_view user,
                          int64_t more_bytes);
// The same for one more open upload.
absl::Status CheckOpenUpload(const HubReader& reader,
                             const QuotaDefaults& defaults,
                             absl::string_view user);
// Counts a contribution of today, or refuses it.
absl::Status ChargeContribution(HubTransaction& transaction,
                                const QuotaDefaults& defaults,
                                absl::string_view user);

// organizations/O of a user; empty if none.
absl::StatusOr<std::string> OrganizationOf(const HubReader& reader,
                                           absl::string_view user);
// Counts bytes that a user now keeps, or no longer does, for it and its
// organisation. Call it before the owner's record changes.
absl::Status AddStoredBytes(HubTransaction& transaction, absl::string_view user,
                            int64_t bytes);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_QUOTA_H_
