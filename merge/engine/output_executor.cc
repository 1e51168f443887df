#include "merge/engine/output_executor.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "merge/engine/input_hash.h"
#include "merge/engine/lane_runner.h"
#include "merge/engine/output_task.h"
#include "merge/engine/write_behind.h"

namespace cairn {
namespace {

// One hash of each source: of the names and hashes of what was read of it.
std::vector<std::string> SourceHashes(
    const OutputPlan& plan, const std::vector<FinishedTensor>& finished) {
  std::vector<std::set<std::string>> lines(plan.sources.size());
  for (size_t o = 0; o < finished.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    for (size_t i = 0; i < output.inputs.size(); ++i) {
      lines[output.inputs[i].source].insert(
          absl::StrCat(output.inputs[i].tensor, " ", finished[o].inputs[i]));
    }
  }
  std::vector<std::string> hashes;
  for (const std::set<std::string>& set : lines) {
    InputHash hash;
    for (const std::string& line : set) {
      hash.Add(absl::Span<const char>(line.data(), line.size()));
    }
    hashes.push_back(absl::StrCat("xxh3:", hash.Finish()));
  }
  return hashes;
}

}  // namespace

absl::StatusOr<OutputResult> RunOutputs(const OutputPlan& plan,
                                        const OutputCost& cost,
                                        ModelWriter& writer,
                                        const OutputRun& run) {
  std::vector<size_t> order(plan.outputs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return plan.outputs[a].spec().size_bytes() >
           plan.outputs[b].spec().size_bytes();
  });
  std::vector<OutputScratch> scratch(static_cast<size_t>(cost.threads));
  std::vector<FinishedTensor> finished(plan.outputs.size());
  std::atomic<int64_t> bytes_done = 0;
  const auto note = [&](size_t index, FinishedTensor done) {
    finished[index] = std::move(done);
    bytes_done += plan.outputs[index].spec().size_bytes();
    if (run.progress) run.progress(bytes_done);
  };
  WriteBehind disk(cost.buffers, static_cast<size_t>(cost.buffer_bytes));
  const auto start = [&](int worker, int64_t piece)
      -> absl::StatusOr<std::unique_ptr<Lane>> {
    const size_t index = order[static_cast<size_t>(piece)];
    const PlannedOutput& output = plan.outputs[index];
    CAIRN_ASSIGN_OR_RETURN(const FinishedTensor* earlier,
                           writer.FindFinished(output.name));
    if (earlier != nullptr && earlier->inputs.size() == output.inputs.size()) {
      note(index, *earlier);
      return nullptr;
    }
    return std::make_unique<OutputTask>(
        plan, cost, output, run, writer.PlaceOf(output.name), disk,
        scratch[static_cast<size_t>(worker)],
        [&, index](FinishedTensor done) -> absl::Status {
          CAIRN_RETURN_IF_ERROR(
              writer.FinishTensor(plan.outputs[index].name, done));
          note(index, std::move(done));
          return absl::OkStatus();
        });
  };
  const int64_t lanes = cost.threads * cost.lanes;
  CAIRN_RETURN_IF_ERROR(RunLanes(
      {.threads = cost.threads,
       .lanes = cost.lanes,
       .pieces = static_cast<int64_t>(order.size()),
       .start = start,
       .is_alone = [&](int64_t piece) {
         const PlannedOutput& output =
             plan.outputs[order[static_cast<size_t>(piece)]];
         return output.spec().size_bytes() > cost.bytes_written / lanes;
       }}));
  CAIRN_RETURN_IF_ERROR(disk.Wait());
  OutputResult result;
  for (size_t i = 0; i < finished.size(); ++i) {
    result.sha256[plan.outputs[i].name] = finished[i].sha256;
  }
  result.sources = SourceHashes(plan, finished);
  return result;
}

}  // namespace cairn
