#include "server/gate/paired_difference.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "boost/math/distributions/gamma.hpp"
#include "boost/math/distributions/normal.hpp"
#include "boost/math/distributions/students_t.hpp"
#include "server/flow/tables.h"

namespace cairn {
namespace {

// Bounds of a scale on which nothing is known, e.g. with one item only. Kept
// finite so that reports stay readable as JSON.
constexpr double kLikelihoodScaleMax = 20.0;
constexpr double kAccuracyScaleMax = 1.0;
constexpr double kPower = 0.8;

// The t with P(T > t) = alpha.
double StudentUpper(double degrees, double alpha) {
  return boost::math::quantile(
      boost::math::complement(boost::math::students_t(degrees), alpha));
}

// P(T > t).
double StudentTail(double degrees, double t) {
  return boost::math::cdf(
      boost::math::complement(boost::math::students_t(degrees), t));
}

// The skewness of `clusters` differences, a standard error to the side on
// which it makes a deviation look surer than it is.
double WorseSkew(double skew, double clusters) {
  return skew - std::sqrt(6 / clusters);
}

// Hall's cubic transformation of a t statistic, and its inverse.
double HallOf(double t, double skew, double clusters) {
  const double unit = skew / std::sqrt(clusters);
  return t + unit * t * t / 3 + unit * unit * t * t * t / 27 + unit / 6;
}
double InverseHall(double value, double skew, double clusters) {
  const double unit = skew / std::sqrt(clusters);
  if (std::abs(unit) < 1e-9) return value;
  return 3 / unit * (std::cbrt(1 + unit * (value - unit / 6)) - 1);
}

// How far a (1 - alpha) bound lies from a mean whose deviation has the unit
// skewness `unit` < 0 and would lie at `t`, were it unskewed. The losses are
// taken for 1 / unit^2 events of a size: the exact bound of the rate of so many
// events of Poisson's. To the first order it is Hall's, and it stays finite.
double PoissonReach(double t, double unit) {
  if (unit > -1e-3) return t;
  const double events = 1 / (unit * unit);
  const double tail = boost::math::cdf(
      boost::math::complement(boost::math::normal(), std::min(t, 30.0)));
  const double most = boost::math::quantile(boost::math::complement(
      boost::math::gamma_distribution(events + 1), tail));
  return std::max(t, (most - events) * -unit);
}

absl::Status CheckShape(const v1::SplitScores& s, absl::string_view side) {
  if (s.scores_size() == 0 || s.scores_size() != s.tokens_size() ||
      (s.groups_size() != 0 && s.groups_size() != s.scores_size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the scores of the ", side, " on ", s.suite(), " (", s.split(),
        ") have ", s.scores_size(), " scores, ", s.tokens_size(),
        " token counts and ", s.groups_size(), " groups; expected one each"));
  }
  for (int i = 0; i < s.scores_size(); ++i) {
    if (!std::isfinite(s.scores(i)) || s.tokens(i) < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("item ", i, " of ", s.suite(), " (", s.split(),
                       ") has the score ", s.scores(i), " over ", s.tokens(i),
                       " tokens on the side of the ", side));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPair(const v1::SplitScores& base,
                       const v1::SplitScores& candidate) {
  if (absl::Status s = CheckShape(base, "base"); !s.ok()) return s;
  if (absl::Status s = CheckShape(candidate, "candidate"); !s.ok()) return s;
  if (base.suite() != candidate.suite() || base.split() != candidate.split() ||
      base.suite_version() != candidate.suite_version() ||
      base.metric() != candidate.metric() ||
      base.scores_size() != candidate.scores_size() ||
      !std::equal(base.tokens().begin(), base.tokens().end(),
                  candidate.tokens().begin()) ||
      !std::equal(base.groups().begin(), base.groups().end(),
                  candidate.groups().begin(), candidate.groups().end())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scores of ", base.suite(), " version ", base.suite_version(), " (",
        base.split(), ") and ", candidate.suite(), " version ",
        candidate.suite_version(), " (", candidate.split(),
        ") are not of the same items and cannot be paired"));
  }
  return absl::OkStatus();
}

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return sum;
}

// One independent observation: a group of items, or an item alone.
struct Cluster {
  double residual = 0;  // sum over its items
  double weight = 0;
};

std::vector<Cluster> MakeClusters(const std::vector<double>& residuals,
                                  const std::vector<double>& weights,
                                  const v1::SplitScores& scores) {
  std::vector<Cluster> out;
  std::map<std::string, size_t> by_group;
  for (size_t i = 0; i < residuals.size(); ++i) {
    size_t at = out.size();
    if (scores.groups_size() > 0) {
      at = by_group.emplace(scores.groups(static_cast<int>(i)), at)
               .first->second;
    }
    if (at == out.size()) out.emplace_back();
    out[at].residual += residuals[i];
    out[at].weight += weights[i];
  }
  return out;
}

// How a ratio of sums varies when clusters are drawn anew.
struct Spread {
  double error = 0;
  double skew = 0;
  double effective_clusters = 0;  // (sum of weights)^2 / sum of squares
};

// The jackknife: each cluster left out once. With equal weights it is the
// textbook standard error; an unequal one counts for what it moves.
Spread Jackknife(const std::vector<Cluster>& clusters, double total) {
  Spread out;
  const double count = static_cast<double>(clusters.size());
  double squares = 0, cubes = 0, weight_squares = 0;
  for (const Cluster& c : clusters) {
    weight_squares += c.weight * c.weight;
    if (clusters.size() < 2) continue;
    const double shift = c.residual / (total - c.weight);
    squares += shift * shift;
    cubes += shift * shift * shift;
  }
  out.effective_clusters = total * total / weight_squares;
  if (squares > 0) {
    out.error = std::sqrt(squares * (count - 1) / count);
    out.skew = cubes / count / std::pow(squares / count, 1.5);
  }
  return out;
}

}  // namespace

bool IsLikelihoodMetric(absl::string_view metric) {
  return metric == "perplexity" || metric == "bits_per_byte" ||
         metric == "byte_perplexity" || metric == "word_perplexity";
}

absl::StatusOr<PairedDifference> PairedDifference::Compare(
    const v1::SplitScores& base, const v1::SplitScores& candidate) {
  if (absl::Status s = CheckPair(base, candidate); !s.ok()) return s;
  PairedDifference d;
  d.is_likelihood_ = IsLikelihoodMetric(base.metric());
  d.items_ = base.scores_size();
  d.suite_ = base.suite();
  d.suite_version_ = base.suite_version();
  d.split_ = base.split();
  d.metric_ = base.metric();
  d.base_value_ = base.value();

  // x = sum(differences) / sum(weights): log-likelihood a token, or points an
  // item. Its error comes from the residuals of that ratio.
  const size_t n = static_cast<size_t>(d.items_);
  std::vector<double> differences(n), weights(n), residuals(n);
  for (size_t i = 0; i < n; ++i) {
    const int at = static_cast<int>(i);
    differences[i] = candidate.scores(at) - base.scores(at);
    weights[i] = d.is_likelihood_ ? static_cast<double>(base.tokens(at)) : 1.0;
    if (d.is_likelihood_) d.base_nll_ -= base.scores(at);
  }
  const double total = Sum(weights);
  d.base_nll_ /= total;
  d.x_ = Sum(differences) / total;
  for (size_t i = 0; i < n; ++i) {
    residuals[i] = differences[i] - d.x_ * weights[i];
  }
  const auto clusters = MakeClusters(residuals, weights, base);
  const Spread spread = Jackknife(clusters, total);
  d.error_ = spread.error;
  d.skew_ = spread.skew;
  d.clusters_ = static_cast<double>(clusters.size());
  // Two clusters of unequal weight are still two observations.
  d.degrees_ =
      clusters.size() < 2 ? 0 : std::max(spread.effective_clusters - 1, 1.0);
  // What a part is worth in the metric is told by its base alone.
  d.candidate_value_ =
      candidate.items().empty() ? candidate.value() : d.MetricAt(d.x_);
  return d;
}

double PairedDifference::Tail(double distance, double skew) const {
  const double t = distance / error_;
  const double worse = WorseSkew(skew, clusters_);
  return StudentTail(degrees_, std::min(t, HallOf(t, worse, clusters_)));
}

double PairedDifference::Reach(double alpha, double skew) const {
  return PoissonReach(StudentUpper(degrees_, alpha),
                      WorseSkew(skew, clusters_) / std::sqrt(clusters_));
}

double PairedDifference::ToScale(double gain) const {
  return is_likelihood_ ? -std::log1p(-gain) : gain;
}

double PairedDifference::FromScale(double x) const {
  const double most = is_likelihood_ ? kLikelihoodScaleMax : kAccuracyScaleMax;
  x = std::clamp(x, -most, most);
  return is_likelihood_ ? -std::expm1(-x) : x;
}

double PairedDifference::MetricAt(double x) const {
  if (!is_likelihood_) return base_value_ + FromScale(x);
  if (metric_ == "bits_per_byte") {
    return base_nll_ == 0 ? base_value_ : base_value_ * (1 - x / base_nll_);
  }
  // exp(NLL * r), r being tokens a byte or a word.
  const double r = base_nll_ == 0 || base_value_ <= 0
                       ? 1
                       : std::log(base_value_) / base_nll_;
  return base_value_ * std::exp(-r * std::clamp(x, -kLikelihoodScaleMax,
                                                kLikelihoodScaleMax));
}

double PairedDifference::gain() const { return FromScale(x_); }

double PairedDifference::standard_error() const {
  return is_likelihood_ ? std::exp(-x_) * error_ : error_;
}

double PairedDifference::LowerBound(double alpha) const {
  if (degrees_ < 1) return FromScale(-kLikelihoodScaleMax);
  return FromScale(x_ - Reach(alpha, skew_) * error_);
}

double PairedDifference::UpperBound(double alpha) const {
  if (degrees_ < 1) return FromScale(kLikelihoodScaleMax);
  return FromScale(x_ + Reach(alpha, -skew_) * error_);
}

bool PairedDifference::IsSurelyAtLeast(double threshold, double alpha) const {
  if (degrees_ < 1) return threshold <= FromScale(-kLikelihoodScaleMax);
  const double distance = x_ - ToScale(threshold);
  return distance >= Reach(alpha, skew_) * error_;
}

double PairedDifference::PValueBelow(double threshold) const {
  if (degrees_ < 1) return 1;
  const double distance = ToScale(threshold) - x_;
  if (error_ == 0) return distance > 0 ? 0 : 1;
  return Tail(distance, -skew_);
}

double PairedDifference::PValueAbove(double threshold) const {
  if (degrees_ < 1) return 1;
  const double distance = x_ - ToScale(threshold);
  if (error_ == 0) return distance > 0 ? 0 : 1;
  return Tail(distance, skew_);
}

double PairedDifference::MinimumDetectableEffect(double alpha) const {
  if (degrees_ < 1) return FromScale(kLikelihoodScaleMax);
  return FromScale(DetectableEffect(error_, degrees_ + 1, alpha));
}

double DetectableEffect(double error, double clusters, double level) {
  if (level <= 0 || clusters < 2) return kLikelihoodScaleMax;
  const double t = StudentUpper(clusters - 1, level);
  const double reach =
      std::max(t, InverseHall(t, WorseSkew(0, clusters), clusters));
  return error * (reach + StudentUpper(clusters - 1, 1 - kPower));
}

bool PairedDifference::CannotBeShown(double share, double level) const {
  constexpr double kPredictiveErrors = 3;
  if (degrees_ < 1 || level <= 0) return level <= 0;
  // With a flat prior the mean of all items has the standard error
  // error * sqrt(1 - share) about the mean of these.
  const double best = x_ + kPredictiveErrors * error_ * std::sqrt(1 - share);
  return best < StudentUpper((degrees_ + 1) / share - 1, level) * error_ *
                    std::sqrt(share);
}

double PairedDifference::RoundingStep(double margin) const {
  double step = 0.25 * margin;
  while (step > 0 && step < standard_error()) step *= 2;
  return step;
}

v1::Report PairedDifference::MakeReport(double alpha, double claim_level,
                                        double margin,
                                        absl::string_view device_class) const {
  v1::Report report;
  report.set_suite(suite_);
  report.set_suite_version(suite_version_);
  report.set_split(split_);
  report.set_metric(metric_);
  report.set_base(base_value_);
  report.set_candidate(candidate_value_);
  report.set_difference(candidate_value_ - base_value_);
  double down = kLikelihoodScaleMax, up = kLikelihoodScaleMax;
  if (degrees_ >= 1) {
    down = Reach(alpha / 2, skew_) * error_;
    up = Reach(alpha / 2, -skew_) * error_;
  }
  double one = MetricAt(x_ - down) - base_value_;
  double other = MetricAt(x_ + up) - base_value_;
  report.add_confidence_interval(std::min(one, other));
  report.add_confidence_interval(std::max(one, other));
  report.set_items(items_);
  report.set_gain(gain());
  report.set_gain_lower(LowerBound(alpha));
  report.set_gain_upper(UpperBound(alpha));
  report.set_claim_level(claim_level);
  report.set_minimum_detectable_effect(MinimumDetectableEffect(claim_level));
  report.set_device_class(std::string(device_class));
  report.set_rounding_step(RoundingStep(margin));
  report.set_id(ComputeEtag(report));
  return report;
}

v1::Report Rounded(const v1::Report& report) {
  v1::Report out;
  out.set_suite(report.suite());
  out.set_suite_version(report.suite_version());
  out.set_split(report.split());
  out.set_metric(report.metric());
  out.set_rounded(true);
  if (report.has_told_gain()) {
    out.set_rounding_step(report.rounding_step());
    out.set_told_gain(report.told_gain());
    out.set_gain(report.told_gain());
  }
  out.set_id(report.id());
  return out;
}

}  // namespace cairn
