#ifndef CAIRN_MERGE_ENGINE_OUTPUT_TASK_H_
#define CAIRN_MERGE_ENGINE_OUTPUT_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "merge/engine/input_hash.h"
#include "merge/engine/lane_runner.h"
#include "merge/engine/model_writer.h"
#include "merge/engine/output_executor.h"
#include "merge/engine/output_plan.h"
#include "merge/engine/tensor_stream.h"

namespace cairn {

// One thread's buffers, used for every tile of all its lanes.
struct OutputScratch {
  std::vector<std::vector<char>> raw;      // a tile of each input, as stored
  std::vector<std::vector<float>> inputs;  // of a strip; a tile with effects
  std::vector<float> result;               // of a strip
  std::unique_ptr<TileQueue> queue;        // when a device is first of use
};

// One tensor of a plan that is made tile by tile, or copied.
class OutputTask : public Lane {
 public:
  using Done = std::function<absl::Status(FinishedTensor)>;

  // All but `done`, which takes the result, outlive the task.
  OutputTask(const OutputPlan& plan, const OutputCost& cost,
             const PlannedOutput& output, const OutputRun& run,
             const TensorPlace& place, WriteBehind& disk,
             OutputScratch& scratch, Done done);

  absl::StatusOr<bool> Step() override;
  TensorStream& stream() override { return stream_; }
  absl::Status Finish() override;

 private:
  bool IsCopy() const;
  absl::Status CheckCancelled() const;
  // The next part of a tensor whose bytes are taken over. Several inputs have
  // to be equal.
  absl::Status CopyPart();
  // Loads effects, makes the method and shows it the tensor as often as it
  // wants.
  absl::Status Prepare();
  // Products of factors go by several rows of the tensor at once, so tiles are
  // cut between such where nothing is summed over them.
  void AlignToRows();
  absl::Status RunPass(int pass, PassScope scope);
  // The tile from `first` on, into scratch. `is_hashed`: it is read for the
  // only time that counts.
  absl::Status ReadTile(int64_t first, int64_t count_max, bool is_hashed);
  absl::Status ReadInput(size_t input, bool is_hashed);
  // Shows the tile strip by strip: numbers take more room than what is stored,
  // and those of a strip stay in the nearest caches.
  absl::Status ForEachStrip(
      absl::FunctionRef<absl::Status(const InputTile& strip)> use);
  // Elements of an input from `begin` of the tile on, as numbers.
  const float* NumbersOf(size_t input, size_t begin, size_t count);
  bool RoundsInputs(const SourceTensor& tensor) const;
  void ObserveTile(int pass);
  absl::Status CombineTile();
  absl::Status CombineStrip(const InputTile& strip);
  // All of the last pass, by a device.
  absl::Status CombineOnDevice();
  // Elements of an input as a device takes them.
  absl::Status ReadPacked(size_t input, int64_t first, size_t count,
                          absl::Span<char> out);
  absl::Status CheckFinite(absl::Span<const char> bytes) const;

  const OutputPlan& plan_;
  const OutputCost& cost_;
  const PlannedOutput& output_;
  const OutputRun& run_;
  OutputScratch& scratch_;
  TensorStream stream_;
  const Done done_;
  const int64_t elements_;
  std::vector<SourceTensor> tensors_;  // loaded once it is prepared
  std::vector<InputHash> hashes_;
  std::unique_ptr<TensorMethod> method_;  // null until it is prepared
  InputTile strip_;
  int64_t tile_first_ = 0;
  size_t tile_count_ = 0;
  bool has_all_ = false;  // the tile is the whole tensor, and hashed
  int64_t step_ = 0;      // elements of a tile
  int64_t strip_step_ = 0;
  int64_t next_ = 0;  // element, or byte of what is copied
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_OUTPUT_TASK_H_
