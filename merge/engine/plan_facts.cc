#include "merge/engine/plan_facts.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "merge/engine/whole_model_scan.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// One output's task vectors, as the merge itself sees them.
class PlanReader : public TaskVectorReader {
 public:
  static absl::StatusOr<std::unique_ptr<PlanReader>> Open(
      const OutputPlan& plan, const PlannedOutput& output) {
    std::unique_ptr<PlanReader> reader(new PlanReader(plan, output));
    for (const PlannedOutput::Input& input : output.inputs) {
      CAIRN_ASSIGN_OR_RETURN(
          reader->tensors_.emplace_back(),
          plan.sources[input.source]->Find(input.tensor)->Loaded());
    }
    return reader;
  }

  absl::StatusOr<std::vector<const float*>> Read(int64_t first,
                                                 size_t count) override {
    CAIRN_RETURN_IF_ERROR(ReadInput(*output_.task.base, first, count, base_));
    std::vector<const float*> pointers;
    for (size_t k = 0; k < others_.size(); ++k) {
      CAIRN_RETURN_IF_ERROR(ReadInput(others_[k], first, count, values_[k]));
      float* tau = values_[k].data();
      Subtract(tau, base_.data(), tau, count);
      const auto clip =
          static_cast<float>(output_.task.inputs[others_[k]].clip);
      if (clip != 1) Scale(clip, tau, tau, count);
      pointers.push_back(tau);
    }
    return pointers;
  }

 private:
  PlanReader(const OutputPlan& plan, const PlannedOutput& output)
      : plan_(plan),
        output_(output),
        others_(output.task.Others()),
        values_(others_.size()) {}

  absl::Status ReadInput(size_t input, int64_t first, size_t count,
                         std::vector<float>& values) {
    const ModelSource& source = *plan_.sources[output_.inputs[input].source];
    const SourceTensor& tensor = tensors_[input];
    values.resize(count);
    CAIRN_RETURN_IF_ERROR(
        source.Read(tensor, first, absl::MakeSpan(values), raw_));
    if (output_.work_dtype != DType::kF32 &&
        output_.work_dtype != tensor.spec.dtype) {
      RoundTo(output_.work_dtype, absl::MakeSpan(values));
    }
    return absl::OkStatus();
  }

  const OutputPlan& plan_;
  const PlannedOutput& output_;
  const std::vector<size_t> others_;
  std::vector<SourceTensor> tensors_;  // one an input
  std::vector<char> raw_;
  std::vector<float> base_;
  std::vector<std::vector<float>> values_;
};

// The outputs of a plan that are merged from task vectors. A participant is a
// source.
class PlanTaskVectors : public TaskVectors {
 public:
  explicit PlanTaskVectors(const OutputPlan& plan) : plan_(plan) {
    for (const PlannedOutput& output : plan.outputs) {
      if (output.method != nullptr && output.task.base) {
        outputs_.push_back(&output);
      }
    }
  }

  size_t participants() const override { return plan_.sources.size(); }
  size_t tensors() const override { return outputs_.size(); }
  int64_t elements(size_t tensor) const override {
    return outputs_[tensor]->task.elements();
  }
  std::vector<size_t> ParticipantsOf(size_t tensor) const override {
    std::vector<size_t> sources;
    for (size_t i : outputs_[tensor]->task.Others()) {
      sources.push_back(outputs_[tensor]->inputs[i].source);
    }
    return sources;
  }
  absl::StatusOr<std::unique_ptr<TaskVectorReader>> Open(
      size_t tensor) const override {
    return PlanReader::Open(plan_, *outputs_[tensor]);
  }

  int64_t all_elements() const {
    int64_t sum = 0;
    for (size_t t = 0; t < tensors(); ++t) sum += elements(t);
    return sum;
  }
  const std::vector<const PlannedOutput*>& outputs() const { return outputs_; }

 private:
  const OutputPlan& plan_;
  std::vector<const PlannedOutput*> outputs_;
};

absl::Status CheckDuplicates(const OutputPlan& plan, const WholeModel& whole) {
  const auto duplicate = FindDuplicate(
      whole, plan.care.duplicate_cosine,
      [&](size_t i) { return std::string(plan.sources[i]->label()); });
  if (!duplicate) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kInvalidArgument, "DUPLICATE",
                       duplicate->message);
}

// The one density that the paper's TIES trims each source to.
absl::StatusOr<std::vector<double>> Densities(const PlanTaskVectors& taus) {
  std::vector<double> densities(taus.participants(), 1.0);
  std::map<size_t, double> known;
  for (const PlannedOutput* output : taus.outputs()) {
    for (size_t i : output->task.Others()) {
      const size_t source = output->inputs[i].source;
      const double density = output->task.inputs[i].parameters.at("density");
      if (known.try_emplace(source, density).first->second != density) {
        return ReasonedError(
            absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
            absl::StrCat("tensor ", output->name, " has density ", density,
                         " and others of the same model have another: under "
                         "profile paper a model is trimmed as a whole"));
      }
      densities[source] = density;
    }
  }
  return densities;
}

bool TrimsWholeModels(const OutputPlan& plan) {
  return std::any_of(plan.outputs.begin(), plan.outputs.end(),
                     [](const PlannedOutput& output) {
                       return output.method != nullptr &&
                              output.method->name == "ties" &&
                              output.task.profile == Profile::kPaper;
                     });
}

}  // namespace

absl::Status GatherFacts(OutputPlan& plan, const OutputCost& cost,
                         const std::atomic<bool>* is_cancelled) {
  const bool needs_products =
      plan.care.clip_norm || plan.care.refuses_duplicates ||
      std::any_of(plan.outputs.begin(), plan.outputs.end(),
                  [](const PlannedOutput& output) {
                    return output.method != nullptr &&
                           output.method->needs_products;
                  });
  const bool trims = TrimsWholeModels(plan);
  if (!needs_products && !trims) return absl::OkStatus();
  const ScanOptions options = {.threads = cost.threads,
                               .tile_elements = cost.tile_elements,
                               .is_cancelled = is_cancelled};
  const PlanTaskVectors taus(plan);
  auto whole = std::make_shared<WholeModel>();
  std::vector<double> clips(taus.participants(), 1.0);
  if (needs_products) {
    CAIRN_RETURN_IF_ERROR(GatherProducts(taus, options, *whole));
    if (plan.care.refuses_duplicates) {
      CAIRN_RETURN_IF_ERROR(CheckDuplicates(plan, *whole));
    }
    if (plan.care.clip_norm) {
      clips = ClipFactors(*whole, *plan.care.clip_norm);
      whole->ScaleBy(clips);
    }
  }
  for (PlannedOutput& output : plan.outputs) {
    if (output.method == nullptr || !output.task.base) continue;
    output.task.whole = whole;
    for (size_t i = 0; i < output.task.inputs.size(); ++i) {
      MethodTask::Input& input = output.task.inputs[i];
      input.participant = output.inputs[i].source;
      if (output.task.base != i && !input.fisher_of) {
        input.clip = clips[input.participant];
      }
    }
  }
  if (!trims) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(const std::vector<double> densities, Densities(taus));
  CAIRN_RETURN_IF_ERROR(
      GatherThresholds(taus, densities, taus.all_elements(), options, *whole));
  return GatherMajority(taus, options, *whole);
}

}  // namespace cairn
