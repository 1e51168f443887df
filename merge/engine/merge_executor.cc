#include "merge/engine/merge_executor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/release_digest.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"
#include "merge/engine/merge_deltas.h"
#include "merge/engine/merge_statistics.h"
#include "merge/engine/piece_runner.h"
#include "merge/method/counter_random.h"
#include "merge/method/tile_math.h"
#include "merge/strategy/strategy.h"

namespace cairn {
namespace {

// The arithmetic's version: another one may give other bytes.
constexpr char kCodeVersion[] = "cairn-merge-2";

// What survives rounding is summed over blocks of this many elements. The
// changes of a LoRA are spread evenly, so that one block in eight tells.
constexpr int64_t kSurvivalBlock = 4096;
constexpr int64_t kAdapterSurvivalStride = 8;

// One thread's buffers, used for every tile it merges.
struct Scratch {
  Scratch(const MergePlan& plan, const Strategy& strategy)
      : bytes(static_cast<size_t>(plan.tile_elements_max) * 4),
        head(static_cast<size_t>(plan.tile_elements_max)),
        sum(head.size()),
        rounded(head.size()),
        deltas(plan.inputs.size(), std::vector<float>(head.size())) {
    if (WantsFisher(strategy.method())) fishers = deltas;
  }

  std::vector<char> bytes;
  std::vector<float> head, sum, rounded;
  std::vector<std::vector<float>> deltas, fishers;
};

// What became of one tensor.
struct TensorResult {
  Digest sha256;
  std::vector<SurvivalSums> survival;  // one an input of the plan
};

class Executor {
 public:
  Executor(const MergeRequest& request, const MergePlan& plan,
           const Strategy& strategy, const MergeFacts& facts,
           const TensorSink& sink, const MergeProgress& progress)
      : request_(request),
        plan_(plan),
        strategy_(strategy),
        facts_(facts),
        coefficients_(strategy.Coefficients()),
        zeros_(static_cast<size_t>(plan.tile_elements_max)),
        sink_(sink),
        progress_(progress) {}

  // Results in the order of the plan's tensors.
  absl::StatusOr<std::vector<TensorResult>> Run() {
    std::vector<TensorResult> results(plan_.tensors.size());
    std::vector<Scratch> scratch(static_cast<size_t>(plan_.threads),
                                 Scratch(plan_, strategy_));
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
  // The tensor's task, bound to this merge.
  absl::StatusOr<MethodTask> TaskOf(
      const PlannedTensor& planned,
      const std::vector<size_t>& participants) const {
    MethodTask task = strategy_.TaskFor(planned.tensor->shape, participants);
    task.whole = facts_.whole;
    for (size_t k = 0; k < participants.size(); ++k) {
      const std::string hex =
          Digest::Of(absl::StrCat(plan_.inputs[participants[k]].digest, " ",
                                  plan_.inputs[participants[k]].contribution))
              .hex();
      uint64_t content = 0;
      (void)absl::SimpleHexAtoi(hex.substr(0, 16), &content);
      task.inputs[k + 1].random_key = RandomKey(
          static_cast<uint64_t>(request_.seed), content, planned.tensor->name);
    }
    CAIRN_RETURN_IF_ERROR(AddStatistics(plan_, planned, strategy_.method(),
                                        participants, task, nullptr));
    return task;
  }

  absl::Status MergeTensor(const PlannedTensor& planned, Scratch& scratch,
                           TensorResult& result) {
    CAIRN_ASSIGN_OR_RETURN(const MergeDeltas deltas,
                           MergeDeltas::Open(plan_, planned, facts_.clips));
    const std::vector<size_t> participants =
        ParticipantsOf(plan_, planned, strategy_);
    CAIRN_ASSIGN_OR_RETURN(MethodTask task, TaskOf(planned, participants));
    CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<TensorMethod> method,
                           strategy_.method().make(std::move(task)));
    const CheckpointTensor& tensor = *planned.tensor;
    const int64_t elements = tensor.elements();
    const int64_t width = DTypeBits(tensor.dtype) / 8;
    const int64_t step = TileElements(plan_.tile_elements, method->granule());
    result.survival.resize(plan_.inputs.size());
    Hasher hasher;
    for (int pass = 0; pass < method->passes(); ++pass) {
      CAIRN_RETURN_IF_ERROR(RunPass(planned, pass, deltas, participants,
                                    elements, step, *method, scratch));
    }
    for (int64_t first = 0; first < elements; first += step) {
      CAIRN_ASSIGN_OR_RETURN(
          const InputTile tile,
          ReadTile(planned, deltas, participants, first,
                   std::min(step, elements - first), scratch));
      absl::Span<char> bytes(scratch.bytes.data(),
                             tile.count * static_cast<size_t>(width));
      CAIRN_RETURN_IF_ERROR(
          MergeTile(planned, tile, *method, bytes, scratch, result.survival));
      hasher.Update(absl::string_view(bytes.data(), bytes.size()));
      CAIRN_RETURN_IF_ERROR(sink_(tensor, first * width, bytes));
      if (progress_) {
        progress_(bytes_done_ += static_cast<int64_t>(bytes.size()));
      }
    }
    result.sha256 = hasher.Finish();
    return absl::OkStatus();
  }

  // Shows the method what a pass has to see.
  absl::Status RunPass(const PlannedTensor& planned, int pass,
                       const MergeDeltas& deltas,
                       const std::vector<size_t>& participants,
                       int64_t elements, int64_t step, TensorMethod& method,
                       Scratch& scratch) const {
    const PassScope scope = method.scope(pass);
    const auto observe = [&](int64_t first, int64_t count) -> absl::Status {
      CAIRN_ASSIGN_OR_RETURN(
          const InputTile tile,
          ReadTile(planned, deltas, participants, first,
                   std::min(count, elements - first), scratch));
      method.Observe(pass, tile);
      return absl::OkStatus();
    };
    if (scope == PassScope::kLook && elements > step) {
      for (int64_t first : LookPlaces(elements)) {
        CAIRN_RETURN_IF_ERROR(observe(first, kLookElements));
      }
    } else if (scope != PassScope::kNone) {
      for (int64_t first = 0; first < elements; first += step) {
        CAIRN_RETURN_IF_ERROR(observe(first, step));
      }
    }
    return method.EndPass(pass);
  }

  // The deltas of those who change the tensor, zeros for the others; then what
  // they measured of it, where that is asked for.
  absl::StatusOr<InputTile> ReadTile(const PlannedTensor& planned,
                                     const MergeDeltas& deltas,
                                     const std::vector<size_t>& participants,
                                     int64_t first, int64_t count,
                                     Scratch& scratch) const {
    InputTile tile = {.first = first,
                      .count = static_cast<size_t>(count),
                      .inputs = {zeros_.data()}};
    size_t next = 0;
    for (size_t participant : participants) {
      if (next == deltas.size() || deltas.input(next) != participant) {
        tile.inputs.push_back(zeros_.data());
        continue;
      }
      absl::Span<float> values(scratch.deltas[next].data(), tile.count);
      CAIRN_RETURN_IF_ERROR(deltas.Read(next, tile.first, values));
      tile.inputs.push_back(values.data());
      ++next;
    }
    if (scratch.fishers.empty()) return tile;
    for (size_t k = 0; k < participants.size(); ++k) {
      absl::Span<float> values(scratch.fishers[k].data(), tile.count);
      CAIRN_RETURN_IF_ERROR(ReadFisher(plan_.inputs[participants[k]], planned,
                                       tile.first, values));
      tile.inputs.push_back(values.data());
    }
    return tile;
  }

  // Leaves the merged tile's packed bytes in `bytes`.
  absl::Status MergeTile(const PlannedTensor& planned, const InputTile& tile,
                         TensorMethod& method, absl::Span<char> bytes,
                         Scratch& scratch,
                         std::vector<SurvivalSums>& survival) {
    const CheckpointTensor& tensor = *planned.tensor;
    const int64_t width = DTypeBits(tensor.dtype) / 8;
    absl::Span<float> head(scratch.head.data(), tile.count);
    absl::Span<float> sum(scratch.sum.data(), tile.count);
    CAIRN_RETURN_IF_ERROR(
        request_.head->ReadBytes(tensor.name, tile.first * width, bytes));
    ToFloats(tensor.dtype, bytes, head);
    AddSurvivals(planned, tile, scratch, survival);
    method.Combine(tile, sum.data());
    if (strategy_.scale() != 1) {
      Scale(strategy_.scale(), sum.data(), sum.data(), sum.size());
    }
    AddScaled(1.0f, head, sum);
    FromFloats(tensor.dtype, sum, bytes);
    if (AllFinite(tensor.dtype, bytes)) return absl::OkStatus();
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat("elements ", tile.first, " to ",
                     tile.first + static_cast<int64_t>(tile.count) - 1,
                     " of the result hold a value that is not finite in ",
                     DTypeName(tensor.dtype),
                     ": use smaller coefficients, or leave the update out"),
        {{"tensor", tensor.name}});
  }

  // Sums what each input's own change would leave behind after rounding.
  void AddSurvivals(const PlannedTensor& planned, const InputTile& tile,
                    Scratch& scratch, std::vector<SurvivalSums>& survival) {
    const DType dtype = planned.tensor->dtype;
    for (size_t d = 0; d < planned.inputs.size(); ++d) {
      const size_t input = planned.inputs[d];
      const absl::Span<const float> delta(scratch.deltas[d].data(), tile.count);
      const bool is_adapter =
          plan_.inputs[input].update->form() == Update::Form::kAdapter;
      const int64_t stride = is_adapter ? kAdapterSurvivalStride : 1;
      const auto factor = static_cast<float>(coefficients_[input]);
      const auto count = static_cast<int64_t>(tile.count);
      int64_t end = 0;
      for (int64_t at = 0; at < count; at = end) {
        // Blocks of the tensor, wherever the tile begins.
        const int64_t block = (tile.first + at) / kSurvivalBlock;
        end = std::min(count, (block + 1) * kSurvivalBlock - tile.first);
        if (block % stride != 0) continue;
        const auto begin = static_cast<size_t>(at);
        const auto size = static_cast<size_t>(end - at);
        absl::Span<const float> values = delta.subspan(begin, size);
        absl::Span<const float> head(scratch.head.data() + begin, size);
        absl::Span<float> rounded(scratch.rounded.data(), size);
        std::copy(head.begin(), head.end(), rounded.begin());
        AddScaled(factor, values, rounded);
        RoundTo(dtype, rounded);
        AddSurvival(factor, values, head, rounded, survival[input]);
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
  const Strategy& strategy_;
  const MergeFacts& facts_;
  const std::vector<double> coefficients_;
  const std::vector<float> zeros_;
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
  // To nine digits, which no order of the sums changes.
  return std::clamp(std::round(applied / wanted * 1e9) / 1e9, 0.0, 1.0);
}

v1::MergeRecord MakeRecord(const MergeRequest& request, const MergePlan& plan,
                           const Strategy& strategy, const MergeFacts& facts,
                           const std::vector<SurvivalSums>& survival) {
  v1::MergeRecord record;
  record.set_strategy(strategy.name());
  record.mutable_parameters()->insert(strategy.parameters().begin(),
                                      strategy.parameters().end());
  const std::vector<double> coefficients = strategy.Coefficients();
  for (size_t i = 0; i < plan.inputs.size(); ++i) {
    v1::MergeRecord::Input& input = *record.add_inputs();
    input.set_contribution(plan.inputs[i].contribution);
    input.set_digest(plan.inputs[i].digest);
    input.set_base_digest(plan.inputs[i].base_digest);
    input.set_coefficient(coefficients[i] * facts.clips[i]);
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
  CAIRN_ASSIGN_OR_RETURN(const Strategy strategy, StrategyOf(request, plan));
  CAIRN_ASSIGN_OR_RETURN(const MergeFacts facts, LearnFacts(plan, strategy));
  Executor executor(request, plan, strategy, facts, sink, progress);
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
  outcome.record = MakeRecord(request, plan, strategy, facts, survival);
  outcome.record.set_digest(outcome.digest);
  return outcome;
}

}  // namespace cairn
