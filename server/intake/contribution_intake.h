#ifndef CAIRN_SERVER_INTAKE_CONTRIBUTION_INTAKE_H_
#define CAIRN_SERVER_INTAKE_CONTRIBUTION_INTAKE_H_

#include <string>

#include "absl/status/statusor.h"
#include "cairn/v1/contribution.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/quota.h"
#include "server/gate/contribution_view.h"
#include "storage/blob_store.h"

namespace cairn {

// Takes contributions in: everything that can be checked from a manifest and
// the headers of its files is checked here, and what fails leaves nothing
// behind. Also reads contributions and takes them back. Callers have been
// authorised. Thread-safe.
class ContributionIntake {
 public:
  // All must outlive it. `hub_id` is what manifests are signed for.
  ContributionIntake(HubStore& store, BlobStore& blobs,
                     const WorkerPresence& workers, std::string hub_id,
                     QuotaDefaults quota = NoQuota());

  // Stores a RECEIVED contribution. The caller's own live contribution of the
  // same update on the same base is returned as it is. Errors:
  //   INVALID_ARGUMENT with a reason (MALFORMED_FILE, SIGNATURE_INVALID,
  //     LICENSE_MISSING, SHAPE_MISMATCH, ...) for what is wrong with it;
  //   FAILED_PRECONDITION for BASE_DIGEST_MISMATCH, HOLDOUT_EXHAUSTED and
  //     blobs that were not uploaded;
  //   RESOURCE_EXHAUSTED with QUOTA_EXCEEDED past the day's contributions;
  //   ALREADY_EXISTS with DUPLICATE for an update that is here already.
  absl::StatusOr<v1::Contribution> Create(
      const Caller& caller, const v1::CreateContributionRequest& request);

  absl::StatusOr<v1::Contribution> Get(
      const Caller& caller, const v1::GetContributionRequest& request,
      Figures figures) const;
  absl::StatusOr<v1::ListContributionsResponse> List(
      const Caller& caller, const v1::ListContributionsRequest& request,
      Figures figures) const;
  // By its author only (PERMISSION_DENIED), before a batch took it
  // (FAILED_PRECONDITION). Taking back twice is success.
  absl::StatusOr<v1::Contribution> Withdraw(
      const Caller& caller, const v1::WithdrawContributionRequest& request);

 private:
  // Makes the record of a request that passes every check.
  absl::StatusOr<store::v1::ContributionRecord> Check(
      const HubReader& reader, const Caller& caller,
      const v1::CreateContributionRequest& request,
      const v1::ContributionManifest& manifest) const;
  // Reads the update's headers and holds them against the base.
  absl::Status CheckUpdate(const store::v1::ReleaseRecord& base,
                           const v1::ContributionManifest& manifest,
                           store::v1::ContributionRecord& record) const;
  absl::Status Store(HubTransaction& transaction, const Caller& caller,
                     const v1::CreateContributionRequest& request,
                     store::v1::ContributionRecord& record) const;

  HubStore& store_;
  BlobStore& blobs_;
  const WorkerPresence& workers_;
  const std::string hub_id_;
  const QuotaDefaults quota_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_CONTRIBUTION_INTAKE_H_
