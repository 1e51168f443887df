#ifndef CAIRN_SERVER_VET_WEIGHT_SCREEN_H_
#define CAIRN_SERVER_VET_WEIGHT_SCREEN_H_

#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"

namespace cairn {

// An update beside those that came before it.
struct WeightScreenInput {
  const store::v1::FingerprintRecord& mine;
  // Of the model, that the gate and people let through; at most the last
  // kHistoryMax of them.
  const std::vector<store::v1::FingerprintRecord>& accepted;
  // Of the model, alive, from other organisations, and received earlier.
  const std::vector<store::v1::FingerprintRecord>& others;
};

inline constexpr size_t kHistoryMax = 500;
// With fewer accepted updates a screen that compares with them only says so.
inline constexpr size_t kHistoryMin = 8;

// Looks at an update for what honest training does not do. Labels only: what
// follows an anomaly is the policy's (screens_block, screens_review). Stateless
// and thread-safe.
class WeightScreen {
 public:
  virtual ~WeightScreen() = default;
  virtual absl::string_view name() const = 0;
  virtual v1::Finding Inspect(const WeightScreenInput& input) const = 0;
};

// Size of the change, whole and by layer, against the accepted ones: scaled
// updates and amplified layers.
std::unique_ptr<WeightScreen> MakeEnergyScreen();
// Spectrum of the low-rank products against the accepted ones: a back door is
// often one direction.
std::unique_ptr<WeightScreen> MakeSpectrumScreen();
// Direction of the change beside those of others: copies, negated copies and
// parts of one update under several names.
std::unique_ptr<WeightScreen> MakeKinshipScreen();
// The same for what they share in part: colluders who split an update.
std::unique_ptr<WeightScreen> MakeCollusionScreen();
// Balance of signs.
std::unique_ptr<WeightScreen> MakeSignsScreen();
// Share of elements that change, against the accepted ones: edits of a few
// weights.
std::unique_ptr<WeightScreen> MakeSparsityScreen();
// Rows of embeddings and heads: a trigger token is a few rows.
std::unique_ptr<WeightScreen> MakeVocabularyScreen();

std::vector<std::unique_ptr<WeightScreen>> AllWeightScreens();

// The update of others whose sketch has the largest absolute cosine; none when
// there are no others.
struct Kin {
  double cosine = 0;
  const store::v1::FingerprintRecord* other = nullptr;
};
Kin NearestKin(const WeightScreenInput& input);
// What a screen says of kin whose absolute cosine is an anomaly from `limit`
// on; the evidence is left to it where there is kin.
v1::Finding FindingOfKin(absl::string_view screen, double limit,
                         const Kin& kin);

// The middle one; `values` is not empty.
double Median(std::vector<double> values);

// How far `value` lies from the middle of `others`, in robust standard
// deviations (1.4826 x the median absolute deviation, at least `spread_min`).
double RobustDistance(double value, std::vector<double> others,
                      double spread_min);

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_WEIGHT_SCREEN_H_
