#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

// The largest eight rows' share of what changes in embeddings and heads.
// Training on text spreads it over many tokens; with only 257 of them an honest
// sparse update had 0.39.
constexpr double kLimit = 0.6;

class VocabularyScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "vocabulary"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("vocabulary");
    finding.set_limit(kLimit);
    if (input.mine.vocabulary_rows() == 0) {
      finding.set_evidence("neither embeddings nor heads change");
      return finding;
    }
    finding.set_score(input.mine.vocabulary_concentration());
    finding.set_anomaly(finding.score() >= kLimit);
    finding.set_evidence(absl::StrFormat(
        "%d rows of embeddings and heads change; the largest eight hold "
        "%.0f %% of that",
        input.mine.vocabulary_rows(), 100 * finding.score()));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeVocabularyScreen() {
  return std::make_unique<VocabularyScreen>();
}

}  // namespace cairn
