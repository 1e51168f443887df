#ifndef CAIRN_SERVER_GATE_HOLDOUT_H_
#define CAIRN_SERVER_GATE_HOLDOUT_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "cairn/v1/model.pb.h"
#include "server/flow/hub_store.h"
#include "server/gate/gate.h"

namespace cairn {

// What protects the gate splits from being asked until they say yes. README.md
// of this folder has the argument; in short:
//   - An author is told of a suite only that nothing was shown, that it got
//     worse than its margin, that it is too small, or that a claim is shown.
//     A gain is told with a shown claim only, and only when it beats the best
//     one told before by a step (the Ladder of Blum and Hardt, 2015).
//   - The level at which the next claim is tested is its share of alpha times
//     2^-(bits that the organisation was told of this split so far).
//   - Shares fall with the claims made before, half of them with everybody's
//     and half with the organisation's own.

// Whom a user's attempts are charged to: "organisations/O", or the user.
absl::StatusOr<std::string> OrganisationOf(const HubReader& reader,
                                           absl::string_view user);

// The epoch of a suite's gate split, from 1.
int32_t EpochOf(const v1::Suite& suite);

// What one organisation was told in an epoch, or, with an empty organisation,
// the sum over all. An empty record when nothing was asked yet.
absl::StatusOr<store::v1::HoldoutRecord> FindHoldout(
    const HubReader& reader, const v1::Suite& suite,
    absl::string_view organisation);

// Nats that it takes to write down what an organisation was told: the code is
// complete, so that exp(-nats) of all possible histories of one length sum to
// at most 1.
double ToldNats(const store::v1::HoldoutRecord& told);

// Which claim on a suite in an epoch the next one is; all count from 1.
struct ClaimOrder {
  int64_t of_all = 1;       // among all claims
  int64_t of_own = 1;       // among its organisation's
  int64_t organisation = 1;  // its organisation's place among those that claim
};
// After what `sum` says of all and `told` of the organisation.
ClaimOrder NextClaim(const store::v1::HoldoutRecord& sum,
                     const store::v1::HoldoutRecord& told);

// Level of the next claim by an organisation that was told `told`. Over all
// claims that can be made the levels sum to at most alpha.
double ClaimLevel(double alpha, const ClaimOrder& order,
                  const store::v1::HoldoutRecord& told);

// Sets the claim levels of the suites of one decision; 0 where the epoch's
// attempts are used up. `records` are the suites' records in the same order.
absl::Status SetClaimLevels(const HubReader& reader, const v1::Policy& policy,
                            absl::string_view organisation,
                            const std::vector<store::v1::SuiteRecord>& records,
                            std::vector<GateSuite>& suites);

// Counts a contribution judged, on one suite, in what is kept of all and of its
// organisation.
void CountAttempt(const GateSuite& suite, store::v1::HoldoutRecord& sum,
                  store::v1::HoldoutRecord& told);

// Counts what a decision says of one suite in `told`, and sets told_gain of
// its report when the gain is told: with a shown claim that is not refused for
// another reason, a step or more above the best gain told before.
void Tell(const GateSuite& suite, const GateDecision& decision,
          store::v1::HoldoutRecord& told, v1::Report& report);

// Writes down what a decision tells the organisation, and decides which gains
// it is told: sets told_gain of `reports`, which are in the order of `suites`.
absl::Status ChargeHoldout(HubTransaction& transaction,
                           absl::string_view organisation,
                           const std::vector<store::v1::SuiteRecord>& records,
                           const std::vector<GateSuite>& suites,
                           const GateDecision& decision,
                           std::vector<v1::Report>& reports);

// Writes down that these organisations, whose contributions were merged, are
// told what the gate said of the merge, which rests on these suites.
absl::Status ChargeMerge(HubTransaction& transaction,
                         const std::set<std::string>& organisations,
                         const std::vector<store::v1::SuiteRecord>& suites,
                         v1::Verdict::Decision decision);

// Writes down when the organisation is told of an evaluation in parts:
// `holds_missed` periods after the first time that was possible.
absl::Status ChargeTime(HubTransaction& transaction,
                        absl::string_view organisation,
                        const std::vector<store::v1::SuiteRecord>& suites,
                        int64_t holds_missed);

// A suite with what is left of its gate split's budget.
absl::StatusOr<v1::Suite> ViewSuite(const HubReader& reader, v1::Suite suite,
                                    const v1::Policy& policy);

// FAILED_PRECONDITION with HOLDOUT_EXHAUSTED naming a suite of the model whose
// gate split has judged all contributions of its epoch.
absl::Status CheckHoldoutLeft(const HubReader& reader, absl::string_view model,
                              const v1::Policy& policy);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_HOLDOUT_H_
