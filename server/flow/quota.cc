#include "server/flow/quota.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::BlobOwnerRecord;
using store::v1::QuotaRecord;
using store::v1::UploadRecord;
using store::v1::UsageRecord;

constexpr absl::string_view kOrganizations = "organizations/";
constexpr int64_t kNoLimit = -1;
// More owned blobs or open uploads of one name are not counted one by one.
constexpr size_t kCountMax = 1'000'000;

bool IsOrganization(absl::string_view name) {
  return absl::StartsWith(name, kOrganizations);
}

absl::Status CheckName(absl::string_view name) {
  absl::string_view id = name;
  if (absl::ConsumePrefix(&id, kOrganizations) && IsChosenId(id)) {
    return absl::OkStatus();
  }
  if (!IsOrganization(name) && UserName::Parse(name).ok()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", name, "\" is neither users/NAME nor organizations/NAME"));
}

int64_t Effective(int64_t own, int64_t fallback) {
  return own == 0 ? fallback : own;
}

int64_t DayOf(absl::Time now) {
  return absl::ToUnixSeconds(now) / absl::ToInt64Seconds(absl::Hours(24));
}

absl::StatusOr<QuotaRecord> QuotaOf(const HubReader& reader,
                                    absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(auto found, reader.Find<QuotaRecord>(name));
  QuotaRecord record = found.value_or(QuotaRecord());
  record.set_name(std::string(name));
  return record;
}

// As counted, or from the blobs themselves where nobody counted yet.
absl::StatusOr<UsageRecord> UsageOf(const HubReader& reader,
                                    absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(auto found, reader.Find<UsageRecord>(name));
  if (found.has_value()) return *std::move(found);
  UsageRecord usage;
  usage.set_name(std::string(name));
  if (IsOrganization(name)) return usage;
  CAIRN_ASSIGN_OR_RETURN(auto owned, reader.ListAll<BlobOwnerRecord>(
                                         absl::StrCat(name, "/"), kCountMax));
  for (const BlobOwnerRecord& blob : owned) {
    usage.set_stored_bytes(usage.stored_bytes() + blob.size_bytes());
  }
  return usage;
}

absl::StatusOr<std::vector<UploadRecord>> OpenUploads(const HubReader& reader,
                                                      absl::string_view name) {
  return reader.FindBy<UploadRecord>(
      IsOrganization(name) ? kUploadByOrganization : kUploadByUser, name,
      kCountMax);
}

v1::QuotaAmounts LimitsOf(const QuotaDefaults& defaults,
                          const QuotaRecord& record) {
  const v1::QuotaAmounts& own = record.overrides();
  const v1::QuotaAmounts& fallback =
      IsOrganization(record.name()) ? defaults.organization : defaults.user;
  v1::QuotaAmounts limits;
  limits.set_stored_bytes(
      Effective(own.stored_bytes(), fallback.stored_bytes()));
  limits.set_open_uploads(
      Effective(own.open_uploads(), fallback.open_uploads()));
  limits.set_contributions_per_day(
      Effective(own.contributions_per_day(), fallback.contributions_per_day()));
  return limits;
}

int64_t Left(int64_t limit, int64_t used) {
  return limit == kNoLimit ? kNoLimit : std::max<int64_t>(0, limit - used);
}

int64_t Tighter(int64_t a, int64_t b) {
  if (a == kNoLimit) return b;
  return b == kNoLimit ? a : std::min(a, b);
}

absl::Status Exceeded(absl::string_view name, absl::string_view quota,
                      int64_t limit, int64_t used, absl::string_view advice) {
  return ReasonedError(
      absl::StatusCode::kResourceExhausted, "QUOTA_EXCEEDED",
      absl::StrCat(name, " may have ", limit, " ", quota, " and has ", used,
                   "; ", advice, ", or ask an administrator for more"),
      {{"quota", std::string(quota)},
       {"name", std::string(name)},
       {"limit", absl::StrCat(limit)},
       {"used", absl::StrCat(used)}});
}

// The user, then its organisation if there is one.
absl::StatusOr<std::vector<QuotaRecord>> Payers(const HubReader& reader,
                                                absl::string_view user) {
  std::vector<QuotaRecord> payers;
  CAIRN_ASSIGN_OR_RETURN(QuotaRecord own, QuotaOf(reader, user));
  const std::string organization = own.organization();
  payers.push_back(std::move(own));
  if (organization.empty()) return payers;
  CAIRN_ASSIGN_OR_RETURN(QuotaRecord shared, QuotaOf(reader, organization));
  payers.push_back(std::move(shared));
  return payers;
}

absl::Status AddTo(HubTransaction& transaction, absl::string_view name,
                   int64_t bytes) {
  CAIRN_ASSIGN_OR_RETURN(UsageRecord usage, UsageOf(transaction, name));
  usage.set_stored_bytes(std::max<int64_t>(0, usage.stored_bytes() + bytes));
  return transaction.Put(usage);
}

}  // namespace

QuotaDefaults NoQuota() {
  v1::QuotaAmounts none;
  none.set_stored_bytes(kNoLimit);
  none.set_open_uploads(kNoLimit);
  none.set_contributions_per_day(kNoLimit);
  return {.user = none, .organization = none};
}

absl::StatusOr<v1::Quota> DescribeQuota(const HubReader& reader,
                                        const QuotaDefaults& defaults,
                                        absl::string_view name,
                                        absl::Time now) {
  CAIRN_RETURN_IF_ERROR(CheckName(name));
  CAIRN_ASSIGN_OR_RETURN(QuotaRecord record, QuotaOf(reader, name));
  CAIRN_ASSIGN_OR_RETURN(UsageRecord usage, UsageOf(reader, name));
  CAIRN_ASSIGN_OR_RETURN(auto open, OpenUploads(reader, name));
  v1::Quota quota;
  quota.set_name(std::string(name));
  quota.set_organization(record.organization());
  *quota.mutable_limits() = LimitsOf(defaults, record);
  *quota.mutable_overrides() = record.overrides();
  v1::QuotaAmounts& used = *quota.mutable_used();
  used.set_stored_bytes(usage.stored_bytes());
  used.set_open_uploads(static_cast<int64_t>(open.size()));
  used.set_contributions_per_day(
      usage.day() == DayOf(now) ? usage.contributions() : 0);
  const v1::QuotaAmounts& limits = quota.limits();
  v1::QuotaAmounts& left = *quota.mutable_left();
  left.set_stored_bytes(Left(limits.stored_bytes(), used.stored_bytes()));
  left.set_open_uploads(Left(limits.open_uploads(), used.open_uploads()));
  left.set_contributions_per_day(
      Left(limits.contributions_per_day(), used.contributions_per_day()));
  if (record.organization().empty()) return quota;
  CAIRN_ASSIGN_OR_RETURN(
      v1::Quota shared,
      DescribeQuota(reader, defaults, record.organization(), now));
  left.set_stored_bytes(
      Tighter(left.stored_bytes(), shared.left().stored_bytes()));
  left.set_open_uploads(
      Tighter(left.open_uploads(), shared.left().open_uploads()));
  left.set_contributions_per_day(Tighter(
      left.contributions_per_day(), shared.left().contributions_per_day()));
  return quota;
}

absl::Status SetQuota(HubTransaction& transaction,
                      const v1::UpdateQuotaRequest& request) {
  CAIRN_RETURN_IF_ERROR(CheckName(request.name()));
  const v1::QuotaAmounts& own = request.overrides();
  if (std::min({own.stored_bytes(), own.open_uploads(),
                own.contributions_per_day()}) < kNoLimit) {
    return absl::InvalidArgumentError(
        "overrides are amounts, 0 for the hub's own limit, or -1 for none");
  }
  const std::string& organization = request.organization();
  if (!organization.empty()) {
    CAIRN_RETURN_IF_ERROR(CheckName(organization));
    if (!IsOrganization(organization) || IsOrganization(request.name())) {
      return absl::InvalidArgumentError(
          absl::StrCat("organization: users belong to organizations/NAME, and ",
                       request.name(), " cannot belong to ", organization));
    }
  }
  CAIRN_ASSIGN_OR_RETURN(QuotaRecord record,
                         QuotaOf(transaction, request.name()));
  if (record.organization() != organization) {
    CAIRN_ASSIGN_OR_RETURN(UsageRecord usage,
                           UsageOf(transaction, request.name()));
    if (!record.organization().empty()) {
      CAIRN_RETURN_IF_ERROR(
          AddTo(transaction, record.organization(), -usage.stored_bytes()));
    }
    if (!organization.empty()) {
      CAIRN_RETURN_IF_ERROR(
          AddTo(transaction, organization, usage.stored_bytes()));
    }
  }
  *record.mutable_overrides() = own;
  record.set_organization(organization);
  return transaction.Put(record);
}

absl::Status CheckStorage(const HubReader& reader,
                          const QuotaDefaults& defaults, absl::string_view user,
                          int64_t more_bytes) {
  CAIRN_ASSIGN_OR_RETURN(auto payers, Payers(reader, user));
  for (const QuotaRecord& payer : payers) {
    const int64_t limit = LimitsOf(defaults, payer).stored_bytes();
    if (limit == kNoLimit) continue;
    CAIRN_ASSIGN_OR_RETURN(UsageRecord usage, UsageOf(reader, payer.name()));
    CAIRN_ASSIGN_OR_RETURN(auto open, OpenUploads(reader, payer.name()));
    int64_t used = usage.stored_bytes();
    for (const UploadRecord& upload : open) used += upload.size_bytes();
    if (used <= limit && more_bytes <= limit - used) continue;
    return WithDetails(Exceeded(payer.name(), "stored_bytes", limit, used,
                                "withdraw contributions that are not needed"),
                       {{"requested", absl::StrCat(more_bytes)}});
  }
  return absl::OkStatus();
}

absl::Status CheckOpenUpload(const HubReader& reader,
                             const QuotaDefaults& defaults,
                             absl::string_view user) {
  CAIRN_ASSIGN_OR_RETURN(auto payers, Payers(reader, user));
  for (const QuotaRecord& payer : payers) {
    const int64_t limit = LimitsOf(defaults, payer).open_uploads();
    if (limit == kNoLimit) continue;
    CAIRN_ASSIGN_OR_RETURN(auto open, OpenUploads(reader, payer.name()));
    const auto used = static_cast<int64_t>(open.size());
    if (used < limit) continue;
    return Exceeded(payer.name(), "open_uploads", limit, used,
                    "finish or cancel one; idle ones are dropped");
  }
  return absl::OkStatus();
}

absl::Status ChargeContribution(HubTransaction& transaction,
                                const QuotaDefaults& defaults,
                                absl::string_view user) {
  CAIRN_ASSIGN_OR_RETURN(auto payers, Payers(transaction, user));
  const int64_t today = DayOf(transaction.now());
  for (const QuotaRecord& payer : payers) {
    CAIRN_ASSIGN_OR_RETURN(UsageRecord usage,
                           UsageOf(transaction, payer.name()));
    const int64_t used = usage.day() == today ? usage.contributions() : 0;
    const int64_t limit = LimitsOf(defaults, payer).contributions_per_day();
    if (limit != kNoLimit && used >= limit) {
      return Exceeded(payer.name(), "contributions_per_day", limit, used,
                      "push again tomorrow (UTC)");
    }
    usage.set_day(today);
    usage.set_contributions(used + 1);
    CAIRN_RETURN_IF_ERROR(transaction.Put(usage));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> OrganizationOf(const HubReader& reader,
                                           absl::string_view user) {
  CAIRN_ASSIGN_OR_RETURN(QuotaRecord record, QuotaOf(reader, user));
  return record.organization();
}

absl::Status AddStoredBytes(HubTransaction& transaction, absl::string_view user,
                            int64_t bytes) {
  CAIRN_RETURN_IF_ERROR(AddTo(transaction, user, bytes));
  CAIRN_ASSIGN_OR_RETURN(std::string organization,
                         OrganizationOf(transaction, user));
  if (organization.empty()) return absl::OkStatus();
  return AddTo(transaction, organization, bytes);
}

}  // namespace cairn
