#include "merge/engine/merge_plan.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "merge/delta/update_delta.h"
#include "merge/engine/merge_statistics.h"

namespace cairn {
namespace {

// Both are multiples of what sums over a tensor are blocked by, so that no
// result depends on them.
constexpr int64_t kTileElements = 1 << 16;
constexpr int64_t kTileElementsMin = 1 << 13;

absl::Status CheckHead(const MergeInput& input, const TouchedTensor& touched,
                       const CheckpointTensor* tensor) {
  if (tensor == nullptr || tensor->shape != touched.shape) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "STALE_BASE",
        absl::StrCat(input.contribution, " changes tensor ", touched.name, " ",
                     ShapeText(touched.shape), ", which the head has ",
                     tensor == nullptr
                         ? "not"
                         : absl::StrCat("as ", ShapeText(tensor->shape)),
                     ": train it again on the latest release"),
        {{"tensor", touched.name}, {"contribution", input.contribution}});
  }
  if (!IsNumeric(tensor->dtype)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "DTYPE_MISMATCH",
        absl::StrCat(input.contribution, " changes tensor ", touched.name,
                     ", which is ", DTypeName(tensor->dtype),
                     " in the head: only F32, F16 and BF16 can be merged"),
        {{"tensor", touched.name}, {"contribution", input.contribution}});
  }
  return absl::OkStatus();
}

// Buffers of one thread for a tile: packed bytes, head, sum and rounded
// values, and the values of each input.
int64_t TileBytes(int64_t tile_elements, size_t inputs) {
  return tile_elements * 4 * (4 + static_cast<int64_t>(inputs));
}

// What a tensor takes besides tiles: factors, twice for the moment in which
// they are transposed, and what the method holds.
struct Need {
  int64_t fixed = 0;
  int64_t granule = 1;
};

absl::StatusOr<Need> NeedOf(const MergePlan& plan, const PlannedTensor& planned,
                            const Strategy& strategy) {
  Need need;
  for (size_t input : planned.inputs) {
    need.fixed +=
        2 * plan.inputs[input].update->EffectBytes(planned.tensor->name);
  }
  const std::vector<size_t> participants =
      ParticipantsOf(plan, planned, strategy);
  MethodTask task = strategy.TaskFor(planned.tensor->shape, participants);
  CAIRN_RETURN_IF_ERROR(AddStatistics(plan, planned, strategy.method(),
                                      participants, task, &need.fixed));
  const auto method = strategy.method().make(std::move(task));
  if (!method.ok()) {
    return Annotate(method.status(),
                    absl::StrCat("strategy ", strategy.name(), ", tensor ",
                                 planned.tensor->name));
  }
  need.fixed += (*method)->memory_bytes();
  need.granule = (*method)->granule();
  return need;
}

absl::Status FitMemory(const MergeOptions& options, const Strategy& strategy,
                       MergePlan& plan) {
  std::vector<Need> needs;
  for (const PlannedTensor& planned : plan.tensors) {
    CAIRN_ASSIGN_OR_RETURN(needs.emplace_back(),
                           NeedOf(plan, planned, strategy));
  }
  // A diagonal is read beside each update.
  const size_t inputs =
      plan.inputs.size() * (WantsFisher(strategy.method()) ? 2 : 1);
  size_t worst = 0;
  const auto need = [&](int threads, int64_t tile) {
    // The most that as many tensors take as there are threads.
    std::vector<int64_t> each;
    for (const Need& n : needs) {
      each.push_back(
          n.fixed + TileBytes(TileElements(tile, n.granule), inputs));
    }
    if (each.empty()) return int64_t{0};
    worst = static_cast<size_t>(std::max_element(each.begin(), each.end()) -
                                each.begin());
    std::sort(each.rbegin(), each.rend());
    each.resize(std::min(each.size(), static_cast<size_t>(threads)));
    return std::accumulate(each.begin(), each.end(), int64_t{0});
  };
  plan.threads = std::max(1, options.threads);
  plan.tile_elements = kTileElements;
  while (need(plan.threads, plan.tile_elements) > options.memory_bytes &&
         plan.tile_elements > kTileElementsMin) {
    plan.tile_elements /= 2;
  }
  while (need(plan.threads, plan.tile_elements) > options.memory_bytes &&
         plan.threads > 1) {
    --plan.threads;
  }
  for (const Need& n : needs) {
    plan.tile_elements_max = std::max(
        plan.tile_elements_max, TileElements(plan.tile_elements, n.granule));
  }
  plan.memory_bytes = need(plan.threads, plan.tile_elements);
  if (plan.memory_bytes <= options.memory_bytes) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kFailedPrecondition, "LIMIT_EXCEEDED",
      absl::StrCat("merging ", plan.inputs.size(), " updates by ",
                   strategy.name(), " takes ", plan.memory_bytes,
                   " bytes of memory, for tensor ",
                   plan.tensors[worst].tensor->name, ", and ",
                   options.memory_bytes, " were granted: raise --memory"));
}

}  // namespace

std::vector<size_t> ParticipantsOf(const MergePlan& plan,
                                   const PlannedTensor& planned,
                                   const Strategy& strategy) {
  if (!strategy.needs_untouched()) return planned.inputs;
  std::vector<size_t> all(plan.inputs.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

absl::StatusOr<Strategy> StrategyOf(const MergeRequest& request,
                                    const MergePlan& plan) {
  std::vector<double> weights;
  for (const MergeInput& input : plan.inputs) weights.push_back(input.weight);
  return Strategy::Make(request.strategy, request.parameters,
                        std::move(weights));
}

absl::StatusOr<MergePlan> PlanMerge(const MergeRequest& request,
                                    const MergeOptions& options) {
  CAIRN_CHECK(request.head != nullptr);
  MergePlan plan;
  plan.inputs = request.inputs;
  std::sort(plan.inputs.begin(), plan.inputs.end(),
            [](const MergeInput& a, const MergeInput& b) {
              return std::tie(a.digest, a.contribution) <
                     std::tie(b.digest, b.contribution);
            });
  std::map<std::string, PlannedTensor> touched_by_name;
  for (size_t i = 0; i < plan.inputs.size(); ++i) {
    const MergeInput& input = plan.inputs[i];
    absl::Status fits = CheckFits(*input.update, *input.base);
    if (!fits.ok()) return Annotate(fits, input.contribution);
    for (const TouchedTensor& touched : input.update->touched()) {
      const CheckpointTensor* tensor = request.head->Find(touched.name);
      CAIRN_RETURN_IF_ERROR(CheckHead(input, touched, tensor));
      PlannedTensor& planned = touched_by_name[touched.name];
      planned.tensor = tensor;
      planned.inputs.push_back(i);
    }
  }
  for (auto& [name, planned] : touched_by_name) {
    plan.bytes_written += planned.tensor->size_bytes();
    plan.tensors.push_back(std::move(planned));
  }
  std::stable_sort(plan.tensors.begin(), plan.tensors.end(),
                   [](const PlannedTensor& a, const PlannedTensor& b) {
                     return a.tensor->size_bytes() > b.tensor->size_bytes();
                   });
  for (const CheckpointTensor& tensor : request.head->tensors()) {
    if (IsNumeric(tensor.dtype)) plan.head_elements += tensor.elements();
  }
  CAIRN_ASSIGN_OR_RETURN(const Strategy strategy, StrategyOf(request, plan));
  CAIRN_RETURN_IF_ERROR(FitMemory(options, strategy, plan));
  return plan;
}

}  // namespace cairn
