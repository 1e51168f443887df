#include "merge/worker/search_job.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "merge/engine/merge_executor.h"
#include "merge/model/load_model.h"
#include "merge/tensor/torch_bridge.h"
#include "merge/worker/model_patches.h"
#include "merge/worker/suite_scorer.h"

namespace cairn {
namespace {

using Which = SuiteScorer::Which;

// The shortest text that reads back as the same number.
std::string NumberText(double value) {
  for (int digits = 1; digits < 17; ++digits) {
    std::string text = absl::StrFormat("%.*g", digits, value);
    if (std::stod(text) == value) return text;
  }
  return absl::StrFormat("%.17g", value);
}

// Memory for the merged tensors, used again for every lambda.
class MergedTensors {
 public:
  static absl::StatusOr<MergedTensors> Allocate(const MergePlan& plan) {
    return CatchTorch("allocate merged tensors",
                      [&]() -> absl::StatusOr<MergedTensors> {
                        MergedTensors merged;
                        for (const PlannedTensor& planned : plan.tensors) {
                          CAIRN_RETURN_IF_ERROR(merged.Add(*planned.tensor));
                        }
                        return merged;
                      });
  }

  // Thread-safe for different tensors.
  absl::Status Write(const CheckpointTensor& tensor, int64_t offset,
                     absl::Span<const char> bytes) {
    absl::Span<char> target = MutableTensorBytes(tensors_.at(tensor.name));
    std::memcpy(target.data() + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
  }

  // Puts random changes of the same norms in the place of those that the merge
  // made to `head`, the same for the same seed.
  absl::Status Randomise(const Checkpoint& head, uint64_t seed) {
    return CatchTorch("draw a placebo", [&]() -> absl::Status {
      at::Generator random = at::make_generator<at::CPUGeneratorImpl>(seed);
      for (auto& [name, tensor] : tensors_) {
        const CheckpointTensor& entry = *head.Find(name);
        CAIRN_ASSIGN_OR_RETURN(auto source, head.OpenTensor(name));
        CAIRN_ASSIGN_OR_RETURN(at::Tensor before,
                               ReadTensor(*source, entry.dtype, entry.shape));
        before = before.to(at::kFloat);
        const double norm =
            at::sub(tensor.to(at::kFloat), before).norm().item<double>();
        at::Tensor noise = at::randn(before.sizes(), random, before.options());
        const double drawn = noise.norm().item<double>();
        if (drawn > 0) noise.mul_(norm / drawn);
        tensor.copy_(noise.add_(before));
      }
      return absl::OkStatus();
    });
  }

  absl::Status SetIn(Model& model) const {
    for (const auto& [name, tensor] : tensors_) {
      CAIRN_RETURN_IF_ERROR(model.SetParameter(name, tensor));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Add(const CheckpointTensor& tensor) {
    CAIRN_ASSIGN_OR_RETURN(at::ScalarType type, ToScalarType(tensor.dtype));
    tensors_[tensor.name] = at::empty(tensor.shape, type);
    return absl::OkStatus();
  }

  std::map<std::string, at::Tensor> tensors_;
};

// What a search works with.
struct Search {
  const v1::SearchSpec& spec;
  const JobContext& context;
  MergeRequest request;
  Model& model;  // of the head
  SuiteScorer& scorer;

  MergeOptions options() const {
    return {.threads = context.threads, .memory_bytes = context.memory_bytes};
  }
};

absl::Status Merge(const MergeRequest& request, const MergePlan& plan,
                   MergedTensors& merged) {
  return RunMerge(request, plan,
                  [&](const CheckpointTensor& tensor, int64_t offset,
                      absl::Span<const char> bytes) {
                    return merged.Write(tensor, offset, bytes);
                  })
      .status();
}

template <typename Scores>
void MoveInto(std::vector<v1::SplitScores> scores, Scores& field) {
  for (v1::SplitScores& split : scores) *field.Add() = std::move(split);
}

// Scores the head with `merged` in it; the head stays as it is.
absl::StatusOr<std::vector<v1::SplitScores>> ScoreMerged(
    Search& search, const MergedTensors& merged, const std::string& what) {
  std::unique_ptr<Model> model = search.model.ShallowCopy();
  CAIRN_RETURN_IF_ERROR(merged.SetIn(*model));
  return search.scorer.Score(*model, Which::kAll, what);
}

absl::Status ScoreLambdas(Search& search, v1::SearchResult& result) {
  CAIRN_ASSIGN_OR_RETURN(MergePlan plan,
                         PlanMerge(search.request, search.options()));
  CAIRN_ASSIGN_OR_RETURN(MergedTensors merged, MergedTensors::Allocate(plan));
  for (double lambda : search.spec.lambdas()) {
    search.request.parameters["lambda"] = NumberText(lambda);
    CAIRN_RETURN_IF_ERROR(Merge(search.request, plan, merged));
    CAIRN_ASSIGN_OR_RETURN(
        auto scores,
        ScoreMerged(search, merged,
                    absl::StrCat("lambda ", NumberText(lambda))));
    v1::SearchResult::Point& point = *result.add_points();
    point.set_lambda(lambda);
    MoveInto(std::move(scores), *point.mutable_scores());
  }
  return absl::OkStatus();
}

// The merge, the placebo, and the merge without each update. Updates touch
// different tensors, so each of the latter is planned by itself.
absl::Status ScoreParts(Search& search, v1::SearchResult& result) {
  {
    CAIRN_ASSIGN_OR_RETURN(MergePlan plan,
                           PlanMerge(search.request, search.options()));
    CAIRN_ASSIGN_OR_RETURN(MergedTensors merged, MergedTensors::Allocate(plan));
    CAIRN_RETURN_IF_ERROR(Merge(search.request, plan, merged));
    CAIRN_ASSIGN_OR_RETURN(auto scores,
                           ScoreMerged(search, merged, "the merge"));
    MoveInto(std::move(scores), *result.add_points()->mutable_scores());
    CAIRN_RETURN_IF_ERROR(merged.Randomise(
        *search.request.head, static_cast<uint64_t>(search.spec.seed())));
    CAIRN_ASSIGN_OR_RETURN(scores, ScoreMerged(search, merged, "a placebo"));
    MoveInto(std::move(scores), *result.mutable_placebo());
  }
  if (!search.spec.leave_one_out()) return absl::OkStatus();
  for (size_t left_out = 0; left_out < search.request.inputs.size();
       ++left_out) {
    MergeRequest request = search.request;
    const std::string name = request.inputs[left_out].contribution;
    request.inputs.erase(request.inputs.begin() +
                         static_cast<std::ptrdiff_t>(left_out));
    CAIRN_ASSIGN_OR_RETURN(MergePlan plan,
                           PlanMerge(request, search.options()));
    CAIRN_ASSIGN_OR_RETURN(MergedTensors merged, MergedTensors::Allocate(plan));
    CAIRN_RETURN_IF_ERROR(Merge(request, plan, merged));
    CAIRN_ASSIGN_OR_RETURN(
        auto scores,
        ScoreMerged(search, merged, absl::StrCat("the merge without ", name)));
    v1::SearchResult::Without& without = *result.add_without();
    without.set_contribution(name);
    MoveInto(std::move(scores), *without.mutable_scores());
  }
  return absl::OkStatus();
}

// How often every suite is scored.
int RoundsOf(const v1::SearchSpec& spec) {
  int rounds = 1 + spec.lambdas_size();
  if (spec.attribute()) rounds += 2;
  if (spec.attribute() && spec.leave_one_out()) rounds += spec.updates_size();
  return rounds;
}

// The tensors that any of the updates touches.
std::vector<std::string> ChangedBy(const std::vector<JobUpdate>& updates) {
  std::vector<std::string> names;
  for (const JobUpdate& update : updates) {
    for (const TouchedTensor& tensor : update.update->touched()) {
      names.push_back(tensor.name);
    }
  }
  return names;
}

absl::Status CheckSpec(const v1::SearchSpec& spec) {
  if (!spec.attribute()) return absl::OkStatus();
  if (!spec.lambdas().empty()) {
    return absl::InvalidArgumentError(
        "the job asks for attribution and for a search at once");
  }
  if (spec.leave_one_out() && spec.updates_size() < 2) {
    return absl::InvalidArgumentError(
        "the job asks to leave out the only update there is");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::SearchResult> RunSearchJob(const v1::SearchSpec& spec,
                                              const JobContext& context) {
  CAIRN_RETURN_IF_ERROR(CheckSpec(spec));
  context.progress(0, "loading");
  CAIRN_ASSIGN_OR_RETURN(JobWeights head, OpenWeights(spec.head(), context));
  std::vector<JobUpdate> updates;
  for (int i = 0; i < spec.updates_size(); ++i) {
    CAIRN_ASSIGN_OR_RETURN(
        updates.emplace_back(),
        OpenJobUpdate(spec.updates(i), static_cast<size_t>(i), context));
  }
  CAIRN_ASSIGN_OR_RETURN(LoadOptions options, LoadOptionsOf(spec, context));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         LoadModel(head.checkpoint, options));
  CAIRN_ASSIGN_OR_RETURN(
      SuiteScorer scorer,
      SuiteScorer::Open(spec.suites(), *model, head.checkpoint.files(),
                        RoundsOf(spec), context));
  // Little enough to fit beside the model and the merge.
  model->ShareLayers(model->LayersBefore(ChangedBy(updates)),
                     std::min(Model::kSharedBytes, context.memory_bytes / 16));
  v1::SearchResult result;
  CAIRN_ASSIGN_OR_RETURN(std::vector<v1::SplitScores> base,
                         scorer.Score(*model, Which::kBaseUnknown, "the head"));
  MoveInto(std::move(base), *result.mutable_base());
  Search search{
      .spec = spec,
      .context = context,
      .request = {.head = &head.checkpoint,
                  .head_identity = &head.identity,
                  .inputs = MergeInputsOf(spec.updates(), updates),
                  .strategy = spec.strategy(),
                  .parameters = {spec.parameters().begin(),
                                 spec.parameters().end()},
                  .seed = spec.seed(),
                  .device_class = context.device_class},
      .model = *model,
      .scorer = scorer};
  CAIRN_RETURN_IF_ERROR(spec.attribute() ? ScoreParts(search, result)
                                         : ScoreLambdas(search, result));
  return result;
}

}  // namespace cairn
