#include "merge/engine/merge_executor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/release_digest.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"
#include "merge/delta/update_delta.h"
#include "merge/engine/piece_runner.h"
#include "merge/strategy/merge_strategy.h"

namespace cairn {
namespace {

// The arithmetic's version: another one may give other bytes.
constexpr char kCodeVersion[] = "cairn-merge-2";

// What survives rounding is summed over blocks of this many elements. The
// changes of a LoRA are spread evenly, so that one block in eight tells.
constexpr int64_t kSurvivalBlock = 4096;
constexpr int64_t kLoraSurvivalStride = 8;

using Deltas = std::vector<std::unique_ptr<TensorDelta>>;

// The deltas of a planned tensor, in the order of planned.inputs.
absl::StatusOr<Deltas> OpenDeltas(const MergePlan& plan,
                                  const PlannedTensor& planned) {
  Deltas deltas;
  for (size_t i : planned.inputs) {
    const MergeInput& input = plan.inputs[i];
    auto delta =
        OpenTensorDelta(*input.update, *input.base, planned.tensor->name);
    if (!delta.ok()) return Annotate(delta.status(), input.contribution);
    deltas.push_back(*std::move(delta));
  }
  return deltas;
}

// Reads all deltas for a strategy that wants to know them beforehand.
class PlanScan : public DeltaScan {
 public:
  explicit PlanScan(const MergePlan& plan) : plan_(plan) {}

  size_t inputs() const override { return plan_.inputs.size(); }
  int64_t elements() const override { return plan_.head_elements; }

  absl::Status ForEachTile(const Visitor& visit) override {
    std::vector<std::vector<float>> buffers(
        static_cast<size_t>(plan_.threads),
        std::vector<float>(static_cast<size_t>(plan_.tile_elements)));
    return RunPieces(plan_.threads, static_cast<int64_t>(plan_.tensors.size()),
                     [&](int worker, int64_t piece) {
                       return ScanTensor(
                           plan_.tensors[static_cast<size_t>(piece)], visit,
                           buffers[static_cast<size_t>(worker)]);
                     });
  }

 private:
  absl::Status ScanTensor(const PlannedTensor& planned, const Visitor& visit,
                          std::vector<float>& buffer) const {
    CAIRN_ASSIGN_OR_RETURN(Deltas deltas, OpenDeltas(plan_, planned));
    const int64_t elements = planned.tensor->elements();
    for (size_t d = 0; d < deltas.size(); ++d) {
      for (int64_t first = 0; first < elements;) {
        const int64_t count = std::min(plan_.tile_elements, elements - first);
        absl::Span<float> tile(buffer.data(), static_cast<size_t>(count));
        CAIRN_RETURN_IF_ERROR(deltas[d]->Read(first, tile));
        visit(planned.inputs[d], tile);
        first += count;
      }
    }
    return absl::OkStatus();
  }

  const MergePlan& plan_;
};

// One thread's buffers, used for every tile it merges.
struct Scratch {
  explicit Scratch(const MergePlan& plan)
      : bytes(static_cast<size_t>(plan.tile_elements) * 4),
        head(static_cast<size_t>(plan.tile_elements)),
        sum(head.size()),
        rounded(head.size()),
        deltas(plan.inputs.size(), std::vector<float>(head.size())) {}

  std::vector<char> bytes;
  std::vector<float> head, sum, rounded;
  std::vector<std::vector<float>> deltas;
};

// What became of one tensor.
struct TensorResult {
  Digest sha256;
  std::vector<SurvivalSums> survival;  // one an input of the plan
};

class Executor {
 public:
  Executor(const MergeRequest& request, const MergePlan& plan,
           const MergeStrategy& strategy, const TensorSink& sink,
           const MergeProgress& progress)
      : request_(request),
        plan_(plan),
        strategy_(strategy),
        coefficients_(strategy.Coefficients()),
        sink_(sink),
        progress_(progress) {}

  // Results in the order of the plan's tensors.
  absl::StatusOr<std::vector<TensorResult>> Run() {
    std::vector<TensorResult> results(plan_.tensors.size());
    std::vector<Scratch> scratch(static_cast<size_t>(plan_.threads),
                                 Scratch(plan_));
    CAIRN_RETURN_IF_ERROR(RunPieces(
        plan_.threads, static_cast<int64_t>(results.size()),
        [&](int worker, int64_t piece) {
          const PlannedTensor& planned =
              plan_.tensors[static_cast<size_t>(piece)];
          return Annotate(
              MergeTensor(planned, scratch[static_cast<size_t>(worker)],
                          results[static_cast<size_t>(piece)]),
              absl::StrCat("merge tensor ", planned.tensor->name));
        }));
    return results;
  }

 private:
  absl::Status MergeTensor(const PlannedTensor& planned, Scratch& scratch,
                           TensorResult& result) {
    CAIRN_ASSIGN_OR_RETURN(Deltas deltas, OpenDeltas(plan_, planned));
    const CheckpointTensor& tensor = *planned.tensor;
    const int64_t elements = tensor.elements();
    const int64_t width = DTypeBits(tensor.dtype) / 8;
    result.survival.resize(plan_.inputs.size());
    Hasher hasher;
    for (int64_t first = 0; first < elements;) {
      const int64_t count = std::min(plan_.tile_elements, elements - first);
      absl::Span<char> bytes(scratch.bytes.data(),
                             static_cast<size_t>(count * width));
      CAIRN_RETURN_IF_ERROR(
          MergeTile(planned, deltas, first, bytes, scratch, result.survival));
      hasher.Update(absl::string_view(bytes.data(), bytes.size()));
      CAIRN_RETURN_IF_ERROR(sink_(tensor, first * width, bytes));
      if (progress_) {
        progress_(bytes_done_ += static_cast<int64_t>(bytes.size()));
      }
      first += count;
    }
    result.sha256 = hasher.Finish();
    return absl::OkStatus();
  }

  // Leaves the merged tile's packed bytes in `bytes`.
  absl::Status MergeTile(const PlannedTensor& planned, const Deltas& deltas,
                         int64_t first, absl::Span<char> bytes,
                         Scratch& scratch,
                         std::vector<SurvivalSums>& survival) {
    const CheckpointTensor& tensor = *planned.tensor;
    const int64_t width = DTypeBits(tensor.dtype) / 8;
    const size_t count = bytes.size() / static_cast<size_t>(width);
    absl::Span<float> head(scratch.head.data(), count);
    absl::Span<float> sum(scratch.sum.data(), count);
    CAIRN_RETURN_IF_ERROR(
        request_.head->ReadBytes(tensor.name, first * width, bytes));
    ToFloats(tensor.dtype, bytes, head);
    std::vector<TileDelta> tile;
    for (size_t d = 0; d < deltas.size(); ++d) {
      absl::Span<float> values(scratch.deltas[d].data(), count);
      CAIRN_RETURN_IF_ERROR(deltas[d]->Read(first, values));
      tile.push_back({planned.inputs[d], values});
    }
    AddSurvivals(tensor.dtype, first, tile, scratch, survival);
    strategy_.Combine(tile, sum);
    AddScaled(1.0f, head, sum);
    FromFloats(tensor.dtype, sum, bytes);
    if (AllFinite(tensor.dtype, bytes)) return absl::OkStatus();
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat("elements ", first, " to ",
                     first + static_cast<int64_t>(count) - 1,
                     " of the result hold a value that is not finite in ",
                     DTypeName(tensor.dtype),
                     ": use smaller coefficients, or leave the update out"),
        {{"tensor", tensor.name}});
  }

  // Sums what each input's own change would leave behind after rounding.
  void AddSurvivals(DType dtype, int64_t first,
                    absl::Span<const TileDelta> tile, Scratch& scratch,
                    std::vector<SurvivalSums>& survival) {
    for (const TileDelta& delta : tile) {
      const bool is_lora =
          plan_.inputs[delta.input].update->encoding() == v1::Encoding::LORA;
      const int64_t stride = is_lora ? kLoraSurvivalStride : 1;
      const auto factor = static_cast<float>(coefficients_[delta.input]);
      const auto count = static_cast<int64_t>(delta.values.size());
      for (int64_t at = 0; at < count; at += kSurvivalBlock) {
        if (((first + at) / kSurvivalBlock) % stride != 0) continue;
        const auto begin = static_cast<size_t>(at);
        const auto size =
            static_cast<size_t>(std::min(kSurvivalBlock, count - at));
        absl::Span<const float> values = delta.values.subspan(begin, size);
        absl::Span<const float> head(scratch.head.data() + begin, size);
        absl::Span<float> rounded(scratch.rounded.data(), size);
        std::copy(head.begin(), head.end(), rounded.begin());
        AddScaled(factor, values, rounded);
        RoundTo(dtype, rounded);
        AddSurvival(factor, values, head, rounded, survival[delta.input]);
      }
    }
  }

  static void RoundTo(DType dtype, absl::Span<float> values) {
    if (dtype == DType::kF32) return;
    char packed[kSurvivalBlock * 2];
    absl::Span<char> bytes(packed, values.size() * 2);
    FromFloats(dtype, values, bytes);
    ToFloats(dtype, bytes, values);
  }

  const MergeRequest& request_;
  const MergePlan& plan_;
  const MergeStrategy& strategy_;
  const std::vector<double> coefficients_;
  const TensorSink& sink_;
  const MergeProgress& progress_;
  std::atomic<int64_t> bytes_done_ = 0;
};

// The share of the wanted change, along itself, that rounding left.
double Survived(const SurvivalSums& sums) {
  double wanted = 0, applied = 0;
  for (int lane = 0; lane < SurvivalSums::kLanes; ++lane) {
    wanted += sums.wanted[lane];
    applied += sums.applied[lane];
  }
  if (!(wanted > 0) || !std::isfinite(applied / wanted)) return 0;
  return std::clamp(applied / wanted, 0.0, 1.0);
}

v1::MergeRecord MakeRecord(const MergeRequest& request, const MergePlan& plan,
                           const MergeStrategy& strategy,
                           const std::vector<SurvivalSums>& survival) {
  v1::MergeRecord record;
  record.set_strategy(std::string(strategy.name()));
  record.mutable_parameters()->insert(strategy.parameters().begin(),
                                      strategy.parameters().end());
  const std::vector<double> coefficients = strategy.Coefficients();
  for (size_t i = 0; i < plan.inputs.size(); ++i) {
    v1::MergeRecord::Input& input = *record.add_inputs();
    input.set_contribution(plan.inputs[i].contribution);
    input.set_digest(plan.inputs[i].digest);
    input.set_base_digest(plan.inputs[i].base_digest);
    input.set_coefficient(coefficients[i]);
    input.set_survived(Survived(survival[i]));
  }
  record.set_seed(request.seed);
  record.set_head_digest(request.head_identity->digest);
  record.set_code_version(kCodeVersion);
  record.set_device_class(request.device_class);
  return record;
}

}  // namespace

absl::StatusOr<MergeOutcome> RunMerge(const MergeRequest& request,
                                      const MergePlan& plan,
                                      const TensorSink& sink,
                                      const MergeProgress& progress) {
  std::vector<double> weights;
  for (const MergeInput& input : plan.inputs) weights.push_back(input.weight);
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<MergeStrategy> strategy,
                         MakeMergeStrategy(request.strategy, request.parameters,
                                           std::move(weights)));
  PlanScan scan(plan);
  CAIRN_RETURN_IF_ERROR(strategy->Prepare(scan));
  Executor executor(request, plan, *strategy, sink, progress);
  CAIRN_ASSIGN_OR_RETURN(std::vector<TensorResult> results, executor.Run());

  MergeOutcome outcome;
  outcome.tensors = request.head_identity->tensors;
  std::map<std::string, v1::Tensor*> by_name;
  for (v1::Tensor& tensor : *outcome.tensors.mutable_tensors()) {
    by_name[tensor.name()] = &tensor;
  }
  std::vector<SurvivalSums> survival(plan.inputs.size());
  for (size_t t = 0; t < results.size(); ++t) {
    const std::string& name = plan.tensors[t].tensor->name;
    by_name.at(name)->set_sha256(results[t].sha256.hex());
    outcome.changed.push_back(name);
    for (size_t i = 0; i < survival.size(); ++i) {
      survival[i].Add(results[t].survival[i]);
    }
  }
  std::sort(outcome.changed.begin(), outcome.changed.end());
  outcome.digest = ReleaseDigest(outcome.tensors, request.head_identity->files);
  outcome.record = MakeRecord(request, plan, *strategy, survival);
  outcome.record.set_digest(outcome.digest);
  return outcome;
}

}  // namespace cairn
