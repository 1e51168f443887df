#include "merge/engine/merge_deltas.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/engine/whole_model_scan.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

class DeltaReader : public TaskVectorReader {
 public:
  explicit DeltaReader(MergeDeltas deltas)
      : deltas_(std::move(deltas)), values_(deltas_.size()) {}

  absl::StatusOr<std::vector<const float*>> Read(int64_t first,
                                                 size_t count) override {
    std::vector<const float*> pointers;
    for (size_t k = 0; k < deltas_.size(); ++k) {
      values_[k].resize(count);
      CAIRN_RETURN_IF_ERROR(
          deltas_.Read(k, first, absl::MakeSpan(values_[k])));
      pointers.push_back(values_[k].data());
    }
    return pointers;
  }

 private:
  const MergeDeltas deltas_;
  std::vector<std::vector<float>> values_;
};

// All deltas of a merge.
class MergeTaskVectors : public TaskVectors {
 public:
  MergeTaskVectors(const MergePlan& plan, const std::vector<double>& clips)
      : plan_(plan), clips_(clips) {}

  size_t participants() const override { return plan_.inputs.size(); }
  size_t tensors() const override { return plan_.tensors.size(); }
  int64_t elements(size_t tensor) const override {
    return plan_.tensors[tensor].tensor->elements();
  }
  std::vector<size_t> ParticipantsOf(size_t tensor) const override {
    return plan_.tensors[tensor].inputs;
  }
  absl::StatusOr<std::unique_ptr<TaskVectorReader>> Open(
      size_t tensor) const override {
    CAIRN_ASSIGN_OR_RETURN(
        MergeDeltas deltas,
        MergeDeltas::Open(plan_, plan_.tensors[tensor], clips_));
    return std::make_unique<DeltaReader>(std::move(deltas));
  }

 private:
  const MergePlan& plan_;
  const std::vector<double>& clips_;
};

absl::Status CheckDuplicates(const MergePlan& plan, const WholeModel& whole,
                             double limit) {
  const auto name = [&](size_t i) { return plan.inputs[i].contribution; };
  const auto duplicate = FindDuplicate(whole, limit, name);
  if (!duplicate) return absl::OkStatus();
  return ReasonedError(absl::StatusCode::kFailedPrecondition, "DUPLICATE",
                       duplicate->message,
                       {{"contribution", name(duplicate->second)}});
}

}  // namespace

absl::StatusOr<MergeFacts> LearnFacts(const MergePlan& plan,
                                      const Strategy& strategy) {
  MergeFacts facts;
  facts.clips.assign(plan.inputs.size(), 1.0);
  const UpdateCare& care = strategy.care();
  const ScanOptions options = {.threads = plan.threads,
                               .tile_elements = plan.tile_elements};
  auto whole = std::make_shared<WholeModel>();
  if (care.refuses_duplicates || care.clip_norm ||
      strategy.method().needs_products) {
    CAIRN_RETURN_IF_ERROR(GatherProducts(MergeTaskVectors(plan, facts.clips),
                                         options, *whole));
    if (care.refuses_duplicates) {
      CAIRN_RETURN_IF_ERROR(
          CheckDuplicates(plan, *whole, care.duplicate_cosine));
    }
    if (care.clip_norm) {
      facts.clips = ClipFactors(*whole, *care.clip_norm);
      whole->ScaleBy(facts.clips);
    }
  }
  const double density = strategy.whole_density();
  if (density > 0) {
    CAIRN_RETURN_IF_ERROR(GatherThresholds(
        MergeTaskVectors(plan, facts.clips),
        std::vector<double>(plan.inputs.size(), density), plan.head_elements,
        options, *whole));
  }
  if (density > 0 || strategy.method().needs_products) {
    facts.whole = std::move(whole);
  }
  return facts;
}

absl::StatusOr<MergeDeltas> MergeDeltas::Open(
    const MergePlan& plan, const PlannedTensor& planned,
    const std::vector<double>& clips) {
  MergeDeltas deltas;
  for (size_t i : planned.inputs) {
    const MergeInput& input = plan.inputs[i];
    auto delta =
        OpenTensorDelta(*input.update, *input.base, planned.tensor->name);
    if (!delta.ok()) return Annotate(delta.status(), input.contribution);
    deltas.deltas_.push_back({.input = i,
                              .clip = static_cast<float>(clips[i]),
                              .delta = *std::move(delta)});
  }
  return deltas;
}

absl::Status MergeDeltas::Read(size_t k, int64_t first,
                               absl::Span<float> out) const {
  CAIRN_RETURN_IF_ERROR(deltas_[k].delta->Read(first, out));
  if (deltas_[k].clip != 1) {
    Scale(deltas_[k].clip, out.data(), out.data(), out.size());
  }
  return absl::OkStatus();
}

}  // namespace cairn
