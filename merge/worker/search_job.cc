#include "merge/worker/search_job.h"

#include <ATen/Functions.h>

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

}  // namespace

absl::StatusOr<v1::SearchResult> RunSearchJob(const v1::SearchSpec& spec,
                                              const JobContext& context) {
  context.progress(0, "loading");
  CAIRN_ASSIGN_OR_RETURN(JobWeights head, OpenWeights(spec.head(), context));
  std::vector<JobUpdate> updates;
  for (int i = 0; i < spec.updates_size(); ++i) {
    CAIRN_ASSIGN_OR_RETURN(
        updates.emplace_back(),
        OpenJobUpdate(spec.updates(i), static_cast<size_t>(i), context));
  }
  MergeRequest request = {
      .head = &head.checkpoint,
      .head_identity = &head.identity,
      .inputs = MergeInputsOf(spec.updates(), updates),
      .strategy = spec.strategy(),
      .parameters = {spec.parameters().begin(), spec.parameters().end()},
      .seed = spec.seed(),
      .device_class = context.device_class};
  CAIRN_ASSIGN_OR_RETURN(
      MergePlan plan,
      PlanMerge(request, {.threads = context.threads,
                          .memory_bytes = context.memory_bytes}));
  CAIRN_ASSIGN_OR_RETURN(LoadOptions options,
                         LoadOptionsOf(spec.dtype(), context));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Model> model,
                         LoadModel(head.checkpoint, options));
  CAIRN_ASSIGN_OR_RETURN(SuiteScorer scorer,
                         SuiteScorer::Open(spec.suites(), *model,
                                           spec.lambdas_size() + 1, context));
  v1::SearchResult result;
  CAIRN_ASSIGN_OR_RETURN(std::vector<v1::SplitScores> base,
                         scorer.Score(*model, Which::kBaseUnknown, "the head"));
  for (v1::SplitScores& split : base) *result.add_base() = std::move(split);

  CAIRN_ASSIGN_OR_RETURN(MergedTensors merged, MergedTensors::Allocate(plan));
  for (double lambda : spec.lambdas()) {
    request.parameters["lambda"] = NumberText(lambda);
    CAIRN_RETURN_IF_ERROR(
        RunMerge(request, plan,
                 [&](const CheckpointTensor& tensor, int64_t offset,
                     absl::Span<const char> bytes) {
                   return merged.Write(tensor, offset, bytes);
                 })
            .status());
    CAIRN_RETURN_IF_ERROR(merged.SetIn(*model));
    CAIRN_ASSIGN_OR_RETURN(
        std::vector<v1::SplitScores> scores,
        scorer.Score(*model, Which::kAll,
                     absl::StrCat("lambda ", NumberText(lambda))));
    v1::SearchResult::Point& point = *result.add_points();
    point.set_lambda(lambda);
    for (v1::SplitScores& split : scores) {
      *point.add_scores() = std::move(split);
    }
  }
  return result;
}

}  // namespace cairn
