#include "server/gate/paired_difference.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
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

double StudentQuantile(double degrees, double p) {
  return boost::math::quantile(boost::math::students_t(degrees), p);
}

// P(T > t).
double StudentTail(double degrees, double t) {
  return boost::math::cdf(
      boost::math::complement(boost::math::students_t(degrees), t));
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

// Sums of residuals by cluster: by group, or each item alone.
std::vector<double> ClusterSums(const std::vector<double>& residuals,
                                const v1::SplitScores& scores) {
  if (scores.groups_size() == 0) return residuals;
  std::map<std::string, double> sums;
  for (int i = 0; i < scores.groups_size(); ++i) {
    sums[scores.groups(i)] += residuals[static_cast<size_t>(i)];
  }
  std::vector<double> out;
  for (const auto& [group, sum] : sums) out.push_back(sum);
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
  d.candidate_value_ = candidate.value();

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
  std::vector<double> clusters = ClusterSums(residuals, base);
  const double count = static_cast<double>(clusters.size());
  d.degrees_ = count - 1;
  double squares = 0;
  for (double c : clusters) squares += c * c;
  if (clusters.size() > 1) {
    d.error_ = std::sqrt(squares * count / (count - 1)) / total;
  }
  return d;
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
  return FromScale(x_ - StudentQuantile(degrees_, 1 - alpha) * error_);
}

double PairedDifference::UpperBound(double alpha) const {
  if (degrees_ < 1) return FromScale(kLikelihoodScaleMax);
  return FromScale(x_ + StudentQuantile(degrees_, 1 - alpha) * error_);
}

double PairedDifference::PValueBelow(double threshold) const {
  if (degrees_ < 1) return 1;
  const double distance = ToScale(threshold) - x_;
  if (error_ == 0) return distance > 0 ? 0 : 1;
  return StudentTail(degrees_, distance / error_);
}

double PairedDifference::PValueAbove(double threshold) const {
  if (degrees_ < 1) return 1;
  const double distance = x_ - ToScale(threshold);
  if (error_ == 0) return distance > 0 ? 0 : 1;
  return StudentTail(degrees_, distance / error_);
}

double PairedDifference::MinimumDetectableEffect(double alpha) const {
  if (degrees_ < 1) return FromScale(kLikelihoodScaleMax);
  const double power = boost::math::quantile(boost::math::normal(), kPower);
  return FromScale((StudentQuantile(degrees_, 1 - alpha) + power) * error_);
}

v1::Report PairedDifference::MakeReport(double alpha, double margin,
                                        absl::string_view device_class) const {
  v1::Report report;
  report.set_suite(suite_);
  report.set_suite_version(suite_version_);
  report.set_split(split_);
  report.set_metric(metric_);
  report.set_base(base_value_);
  report.set_candidate(candidate_value_);
  report.set_difference(candidate_value_ - base_value_);
  double half = 0;
  if (degrees_ < 1) {
    half = kLikelihoodScaleMax;
  } else {
    half = StudentQuantile(degrees_, 1 - alpha / 2) * error_;
  }
  double one = MetricAt(x_ - half) - base_value_;
  double other = MetricAt(x_ + half) - base_value_;
  report.add_confidence_interval(std::min(one, other));
  report.add_confidence_interval(std::max(one, other));
  report.set_items(items_);
  report.set_gain(gain());
  report.set_gain_lower(LowerBound(alpha));
  report.set_gain_upper(UpperBound(alpha));
  report.set_minimum_detectable_effect(MinimumDetectableEffect(alpha));
  report.set_device_class(std::string(device_class));
  report.set_rounding_step(std::max(0.25 * margin, standard_error()));
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
  out.set_rounding_step(report.rounding_step());
  if (report.rounding_step() > 0) {
    out.set_gain(std::round(report.gain() / report.rounding_step()) *
                 report.rounding_step());
  }
  out.set_id(report.id());
  return out;
}

}  // namespace cairn
