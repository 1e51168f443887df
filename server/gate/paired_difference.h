#ifndef CAIRN_SERVER_GATE_PAIRED_DIFFERENCE_H_
#define CAIRN_SERVER_GATE_PAIRED_DIFFERENCE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/job.pb.h"

namespace cairn {

// The paired gain d of a candidate over a base on one split, with its error;
// d > 0 is better.
//   Likelihood metrics (perplexity and its kin): d = 1 - exp(delta), delta the
//   change of the mean negative log-likelihood a token, a ratio of sums over
//   items whose error is by the delta method.
//   Accuracies: d = mean difference of the items' points.
// Items of one group are one cluster. The standard error is the jackknife over
// clusters; bounds are Student's t with (effective number of clusters) - 1
// degrees of freedom, taken for likelihood on the log scale, so that they map
// through exp. A mean of skewed differences is judged by the stricter of
// Student's t and a correction, the skewness being taken a standard error to
// the worse side. Bounds take the losses for Poisson's events (Garwood 1936,
// "Fiducial limits for the Poisson distribution"), which keeps them finite
// where one item makes up the whole error. Tests take Hall's transformation
// (1992, "On the removal of skewness by transformation"): far out in the tail,
// where the levels of the hold-out ledger lie, Student's t alone errs a
// hundredfold, and the other correction fivefold.
class PairedDifference {
 public:
  // INVALID_ARGUMENT when the two are not of the same suite, version, split
  // and items, or hold what is not a finite number.
  static absl::StatusOr<PairedDifference> Compare(
      const v1::SplitScores& base, const v1::SplitScores& candidate);

  double gain() const;
  // One-sided (1 - alpha) bounds of the gain.
  double LowerBound(double alpha) const;
  double UpperBound(double alpha) const;
  // LowerBound(alpha) >= threshold.
  bool IsSurelyAtLeast(double threshold, double alpha) const;
  // Standard error of the gain.
  double standard_error() const;
  // For levels far below alpha. p-value of the one-sided test that the gain is
  // below (above) `threshold`: small when it surely is.
  double PValueBelow(double threshold) const;
  double PValueAbove(double threshold) const;
  // The smallest gain that would be shown (lower bound > 0) in 80 % of cases.
  double MinimumDetectableEffect(double alpha) const;
  // True when it is unlikely (three predictive standard errors) that all items,
  // of which these are a random `share`, would show a gain at `level`.
  bool CannotBeShown(double share, double level) const;
  double degrees_of_freedom() const { return degrees_; }
  // The step in which authors are told the gain: margin / 4, doubled until it
  // is no less than the standard error, so that the step itself tells little of
  // the error.
  double RoundingStep(double margin) const;

  // The report of both sides with every figure, its id included.
  // `margin` sets the rounding step; `claim_level` is the level at which a
  // claim is tested and the detectable effect is given.
  v1::Report MakeReport(double alpha, double claim_level, double margin,
                        absl::string_view device_class) const;

 private:
  PairedDifference() = default;

  double ToScale(double gain) const;
  double FromScale(double x) const;
  // The metric of the candidate if the scale were x, the base being as it is.
  double MetricAt(double x) const;

  bool is_likelihood_ = false;
  // One-sided p-value of a deviation of `distance` in the direction in which
  // the differences have the skewness `skew`.
  double Tail(double distance, double skew) const;
  // How many standard errors a (1 - alpha) bound against it lies away.
  double Reach(double alpha, double skew) const;

  double x_ = 0;      // gain on the scale of the test
  double error_ = 0;  // its standard error
  double skew_ = 0;   // skewness of the clusters' differences
  double clusters_ = 0;
  double degrees_ = 0;
  double base_nll_ = 0;  // mean negative log-likelihood a token
  int64_t items_ = 0;
  std::string suite_, split_, metric_;
  int32_t suite_version_ = 0;
  double base_value_ = 0, candidate_value_ = 0;
};

// True for metrics that are functions of the likelihood of the text.
bool IsLikelihoodMetric(absl::string_view metric);

// The smallest true gain that a test at `level` shows with 80 % power, given
// its standard error over so many equal clusters of unskewed differences.
double DetectableEffect(double error, double clusters, double level);

// The report as authors and readers see it: the gain that they are told, if
// they are told any, and nothing more.
v1::Report Rounded(const v1::Report& report);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_PAIRED_DIFFERENCE_H_
