#include "merge/method/task_vector_method.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {

TaskVectorMethod::TaskVectorMethod(
    MethodTask task, Consensus consensus,
    std::vector<std::unique_ptr<Sparsifier>> sparsifiers)
    : task_(std::move(task)),
      consensus_(consensus),
      others_(task_.Others()),
      sparsifiers_(std::move(sparsifiers)) {
  double sum = 0;
  for (size_t i : others_) {
    const double weight = task_.inputs[i].parameters.at("weight");
    weights_.push_back(static_cast<float>(weight));
    sum += weight;
  }
  keeps_all_ = std::all_of(sparsifiers_.begin(), sparsifiers_.end(),
                           [](const auto& s) { return s->keeps_all(); });
  is_normalized_ = task_.Shared("normalize") != 0;
  double factor = task_.Shared("lambda");
  if (is_normalized_ && consensus_ == Consensus::kNone &&
      std::abs(sum) >= 1e-8) {
    factor /= static_cast<double>(static_cast<float>(sum));
  }
  factor_ = static_cast<float>(factor);
}

std::optional<ElementFormula> TaskVectorMethod::Formula() const {
  if (consensus_ == Consensus::kCount) return std::nullopt;
  ElementFormula formula = ElementFormula::Of(consensus_ == Consensus::kNone
                                                  ? ElementKind::kWeightedSum
                                                  : ElementKind::kAgreeing,
                                              task_.base, others_, weights_);
  formula.rule.factor = factor_;
  formula.rule.is_normalized = is_normalized_;
  for (size_t k = 0; k < others_.size(); ++k) {
    if (!sparsifiers_[k]->Describe(formula.members[k])) return std::nullopt;
  }
  return formula;
}

int64_t TaskVectorMethod::granule() const {
  int64_t granule = 1;
  for (const auto& s : sparsifiers_) granule = std::max(granule, s->granule());
  // Several short rows at a time.
  constexpr auto kBlock = static_cast<int64_t>(kSumBlock);
  return granule == 1 ? 1 : granule * std::max<int64_t>(1, kBlock / granule);
}

size_t TaskVectorMethod::StripElements() const {
  const int64_t unit = granule();
  return unit == 1 ? kSumBlock : static_cast<size_t>(unit);
}

int TaskVectorMethod::passes() const {
  int passes = 0;
  for (const auto& s : sparsifiers_) passes = std::max(passes, s->passes());
  return passes;
}

PassScope TaskVectorMethod::scope(int pass) const {
  PassScope scope = PassScope::kNone;
  for (const auto& s : sparsifiers_) {
    if (pass < s->passes()) scope = std::max(scope, s->scope(pass));
  }
  return scope;
}

int64_t TaskVectorMethod::memory_bytes() const {
  int64_t bytes = 0;
  for (const auto& s : sparsifiers_) bytes += s->memory_bytes();
  return bytes + static_cast<int64_t>(std::max<size_t>(1, others_.size()) *
                                      StripElements() * sizeof(float));
}

void TaskVectorMethod::Observe(int pass, const InputTile& tile) {
  const size_t unit = StripElements();
  deltas_.resize(1);
  deltas_[0].resize(unit);
  float* delta = deltas_[0].data();
  const float* base = tile.inputs[*task_.base];
  for (size_t k = 0; k < others_.size(); ++k) {
    if (pass >= sparsifiers_[k]->passes() ||
        sparsifiers_[k]->scope(pass) == PassScope::kNone) {
      continue;
    }
    const float* values = tile.inputs[others_[k]];
    for (size_t begin = 0; begin < tile.count; begin += unit) {
      const size_t count = std::min(unit, tile.count - begin);
      Subtract(values + begin, base + begin, delta, count);
      sparsifiers_[k]->Observe(pass, tile.first + static_cast<int64_t>(begin),
                               delta, count);
    }
  }
}

absl::Status TaskVectorMethod::EndPass(int pass) {
  for (auto& s : sparsifiers_) {
    if (pass < s->passes()) s->EndPass(pass);
  }
  return absl::OkStatus();
}

void TaskVectorMethod::Combine(const InputTile& tile, float* out) {
  if (keeps_all_ && consensus_ != Consensus::kCount) {
    std::vector<const float*> values;
    for (size_t i : others_) values.push_back(tile.inputs[i]);
    const float* base = tile.inputs[*task_.base];
    if (consensus_ == Consensus::kNone) {
      AddTaskVectors(values.data(), weights_.data(), values.size(), base,
                     factor_, out, tile.count);
    } else {
      AddAgreeingTaskVectors(values.data(), weights_.data(), values.size(),
                             is_normalized_, base, factor_, out, tile.count);
    }
    return;
  }
  // Where nothing is summed over strips they are such that all of one stay in
  // the first cache.
  constexpr size_t kShort = 1024;
  const size_t unit = granule() == 1 ? kShort : StripElements();
  deltas_.resize(others_.size());
  for (std::vector<float>& delta : deltas_) delta.resize(unit);
  for (size_t begin = 0; begin < tile.count; begin += unit) {
    CombineStrip(tile, begin, std::min(unit, tile.count - begin), out + begin);
  }
}

void TaskVectorMethod::CombineStrip(const InputTile& tile, size_t begin,
                                    size_t count, float* out) {
  const float* base = tile.inputs[*task_.base] + begin;
  const int64_t first = tile.first + static_cast<int64_t>(begin);
  weighted_.clear();
  const bool is_weighted = consensus_ != Consensus::kCount;
  for (size_t k = 0; k < others_.size(); ++k) {
    float* delta = deltas_[k].data();
    sparsifiers_[k]->ApplyToDifference(first, tile.inputs[others_[k]] + begin,
                                       base, is_weighted ? weights_[k] : 1.0f,
                                       delta, count);
    weighted_.push_back(delta);
  }
  if (consensus_ == Consensus::kNone) {
    AddDeltas(weighted_.data(), weighted_.size(), base, factor_, out, count);
  } else if (consensus_ == Consensus::kSum) {
    AddAgreeingDeltas(weighted_.data(), weights_.data(), weighted_.size(),
                      is_normalized_, base, factor_, out, count);
  } else {
    MeanOfAgreeing(weighted_.data(), weights_.data(), weighted_.size(), out,
                   count);
    if (factor_ != 1.0f) Scale(factor_, out, out, count);
    Add(out, base, out, count);
  }
}

namespace {

using Consensus = TaskVectorMethod::Consensus;

enum class Sparsity { kNone, kMagnitude, kRandom, kOutliers, kRanked };

// Another sparsifier, whose result is multiplied.
class Multiplied : public Sparsifier {
 public:
  Multiplied(std::unique_ptr<Sparsifier> inner, float factor)
      : inner_(std::move(inner)), factor_(factor) {}

  int64_t granule() const override { return inner_->granule(); }
  int passes() const override { return inner_->passes(); }
  PassScope scope(int pass) const override { return inner_->scope(pass); }
  int64_t memory_bytes() const override { return inner_->memory_bytes(); }
  void Observe(int pass, int64_t first, const float* values,
               size_t count) override {
    inner_->Observe(pass, first, values, count);
  }
  void EndPass(int pass) override { inner_->EndPass(pass); }
  void Apply(int64_t first, float* values, size_t count) override {
    inner_->Apply(first, values, count);
    Scale(factor_, values, values, count);
  }

 private:
  const std::unique_ptr<Sparsifier> inner_;
  const float factor_;
};

// The name says what kind of task-vector method it is.
template <Consensus consensus, Sparsity sparsity>
absl::StatusOr<std::unique_ptr<TensorMethod>> Make(MethodTask task) {
  if (consensus == Consensus::kSum && sparsity == Sparsity::kMagnitude &&
      task.profile == Profile::kPaper) {
    return MakePaperTies(task);
  }
  const bool is_rescaled = task.Shared("rescale") != 0;
  const int64_t elements = task.elements();
  std::vector<std::unique_ptr<Sparsifier>> sparsifiers;
  for (size_t i : task.Others()) {
    const auto& parameters = task.inputs[i].parameters;
    const double density = parameters.at("density");
    std::unique_ptr<Sparsifier> made;
    if (sparsity == Sparsity::kNone || density >= 1) {
      made = MakeKeepAll();
    } else if (sparsity == Sparsity::kMagnitude) {
      // peft keeps nothing where mergekit keeps one.
      const bool is_empty = task.profile == Profile::kPeft &&
                            density * static_cast<double>(elements) < 1;
      made = MakeMagnitudeTrim(elements, is_empty ? 0 : density, is_rescaled);
    } else if (sparsity == Sparsity::kOutliers) {
      made = MakeOutlierTrim(elements, density, parameters.at("gamma"),
                             is_rescaled);
    } else if (sparsity == Sparsity::kRandom) {
      // mergekit restores the sum of magnitudes, the paper and peft divide by
      // the probability.
      const bool is_divided =
          is_rescaled && density > 0 && task.profile != Profile::kMergekit;
      made = MakeRandomDrop(elements, density, task.inputs[i].random_key,
                            is_rescaled && !is_divided);
      if (is_divided) {
        made = std::make_unique<Multiplied>(std::move(made),
                                            static_cast<float>(1 / density));
      }
    } else {
      const double epsilon = parameters.at("epsilon");
      if (density > 0 && (density + epsilon >= 1 || density - epsilon <= 0)) {
        return absl::InvalidArgumentError(
            "parameter epsilon: density + epsilon and density - epsilon must "
            "lie between 0 and 1");
      }
      made = MakeRankedDrop(task.shape, density, epsilon,
                            task.inputs[i].random_key, is_rescaled);
    }
    sparsifiers.push_back(std::move(made));
  }
  const Consensus chosen =
      consensus == Consensus::kSum && task.profile != Profile::kMergekit
          ? Consensus::kCount
          : consensus;
  return std::make_unique<TaskVectorMethod>(std::move(task), chosen,
                                            std::move(sparsifiers));
}

struct Row {
  const char* name;
  const char* source;
  bool is_normalized;
  bool is_rescaled;
  Sparsity sparsity;
  absl::StatusOr<std::unique_ptr<TensorMethod>> (*make)(MethodTask);
};

constexpr Row kRows[] = {
    {"task_arithmetic", "arXiv 2212.04089: base + lambda x sum of weight x tau",
     false, false, Sparsity::kNone, Make<Consensus::kNone, Sparsity::kNone>},
    {"ties",
     "arXiv 2306.01708: keep the largest of each tau, elect signs, mean of "
     "those that agree",
     true, false, Sparsity::kMagnitude,
     Make<Consensus::kSum, Sparsity::kMagnitude>},
    {"dare_linear", "arXiv 2311.03099: drop at random, rescale, sum", false,
     true, Sparsity::kRandom, Make<Consensus::kNone, Sparsity::kRandom>},
    {"dare_ties", "arXiv 2311.03099: drop at random, rescale, then TIES", false,
     true, Sparsity::kRandom, Make<Consensus::kSum, Sparsity::kRandom>},
    {"breadcrumbs",
     "arXiv 2312.06795: drop the largest gamma and the smallest, sum", false,
     false, Sparsity::kOutliers, Make<Consensus::kNone, Sparsity::kOutliers>},
    {"breadcrumbs_ties", "arXiv 2312.06795 with TIES' signs", false, false,
     Sparsity::kOutliers, Make<Consensus::kSum, Sparsity::kOutliers>},
    {"della",
     "arXiv 2406.11617: drop at random, large ones less often, then TIES", true,
     true, Sparsity::kRanked, Make<Consensus::kSum, Sparsity::kRanked>},
    {"della_linear", "arXiv 2406.11617 without TIES' signs", false, true,
     Sparsity::kRanked, Make<Consensus::kNone, Sparsity::kRanked>},
};

}  // namespace

std::vector<MethodSpec> TaskVectorMethods() {
  std::vector<MethodSpec> methods;
  for (const Row& row : kRows) {
    MethodSpec spec = {
        .name = row.name,
        .source = row.source,
        .base = MethodSpec::Base::kRequired,
        .is_random = row.sparsity == Sparsity::kRandom ||
                     row.sparsity == Sparsity::kRanked,
        .is_on_deltas = true,
        .parameters = {SharedBool("int8_mask", false),
                       SharedBool("normalize", row.is_normalized),
                       SharedBool("rescale", row.is_rescaled),
                       SharedNumber("lambda", 1.0, -kLargest, kLargest),
                       OtherNumber("weight", std::nullopt, -kLargest, kLargest),
                       OtherNumber("density", 1.0, 0, 1)},
        .make = row.make};
    if (row.sparsity == Sparsity::kOutliers) {
      spec.parameters.push_back(OtherNumber("gamma", 0.01, 0, 1));
    }
    if (row.sparsity == Sparsity::kRanked) {
      spec.parameters.push_back(OtherNumber("epsilon", 0.15, 0, 1));
    }
    methods.push_back(std::move(spec));
  }
  return methods;
}

}  // namespace cairn
