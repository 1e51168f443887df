#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/vet/screen.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;

class DuplicateScreen : public Screen {
 public:
  absl::string_view name() const override { return "duplicate"; }

  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const override {
    const v1::Contribution& mine = input.record.contribution();
    CAIRN_ASSIGN_OR_RETURN(
        auto same,
        input.reader.FindBy<ContributionRecord>(
            kContributionByDigest,
            ContributionDigestValue(input.record.model(), mine.digest())));
    std::vector<v1::Reason> reasons;
    for (const ContributionRecord& other : same) {
      // Found in the order of their names: only what came before counts.
      if (other.contribution().name() == mine.name()) break;
      if (IsLive(other.contribution().state()) &&
          other.base_digest() == input.record.base_digest()) {
        reasons.push_back(
            MakeReason(v1::Reason::DUPLICATE,
                       "the same update was contributed before; there is "
                       "nothing to add to it"));
        break;
      }
    }
    return reasons;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeDuplicateScreen() {
  return std::make_unique<DuplicateScreen>();
}

}  // namespace cairn
