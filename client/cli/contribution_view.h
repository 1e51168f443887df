#ifndef CAIRN_CLIENT_CLI_CONTRIBUTION_VIEW_H_
#define CAIRN_CLIENT_CLI_CONTRIBUTION_VIEW_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/v1/contribution.pb.h"
#include "client/cli/session.h"

namespace cairn::cli {

// A contribution for people: state, verdicts with reasons, measurements.
std::string DescribeContribution(const Session& session,
                                 const v1::Contribution& contribution);

// Contributions for people, one a row.
std::string ContributionTable(const Session& session,
                              const std::vector<v1::Contribution>& items);

// "SUITE_REGRESSED: prose lost ..." for each reason, indented.
std::string DescribeReasons(
    const google::protobuf::RepeatedPtrField<v1::Reason>& reasons);

// "prose: perplexity 12.1 -> 11.8 (...)" for each report, indented.
std::string DescribeReports(
    const google::protobuf::RepeatedPtrField<v1::Report>& reports);

absl::StatusOr<v1::Contribution> GetContribution(HubChannel& hub,
                                                 const std::string& name);

// What waiting ends at.
enum class WaitFor {
  // Screens and evaluation are through: queued, refused or for people.
  kVetted,
  // Released or refused.
  kReleased,
};

// Waits, saying what it waits for; survives restarts of the hub. CANCELLED
// when interrupted.
absl::StatusOr<v1::Contribution> AwaitContribution(
    const Session& session, HubChannel& hub, v1::Contribution contribution,
    WaitFor until);

// Prints a contribution.
void PrintContribution(Session& session, const v1::Contribution& contribution);

}  // namespace cairn::cli

#endif  // CAIRN_CLIENT_CLI_CONTRIBUTION_VIEW_H_
