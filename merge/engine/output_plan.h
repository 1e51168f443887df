#ifndef CAIRN_MERGE_ENGINE_OUTPUT_PLAN_H_
#define CAIRN_MERGE_ENGINE_OUTPUT_PLAN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/dtype.h"
#include "core/update/strategies.h"
#include "merge/engine/model_source.h"
#include "merge/engine/tile_device.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// One tensor of a model that is to be made.
struct PlannedOutput {
  struct Input {
    size_t source = 0;  // in OutputPlan::sources
    std::string tensor;
  };

  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;  // as it is written
  // Inputs are rounded to it before they are merged, the result after.
  DType work_dtype = DType::kF32;
  std::vector<Input> inputs;
  // Null: the inputs must be equal, and are copied byte for byte.
  const MethodSpec* method = nullptr;
  MethodTask task;  // inputs' random keys are filled in by BindInputs()

  TensorSpec spec() const {
    return {.name = name, .dtype = dtype, .shape = shape};
  }
};

// A model that is to be made, from headers alone.
struct OutputPlan {
  std::vector<std::shared_ptr<ModelSource>> sources;
  std::vector<PlannedOutput> outputs;  // sorted by name
  std::string config_json;
  uint64_t seed = 0;
  // What is done about inputs that are too long or there twice.
  UpdateCare care = {};
};

// What running a plan takes.
struct OutputCost {
  int threads = 1;
  int lanes = 1;  // tensors that a thread has under way at once
  int64_t tile_elements = 0;
  // What waits for the disk.
  int buffers = 0;
  int64_t buffer_bytes = 0;
  int64_t memory_bytes = 0;
  int64_t bytes_read = 0;
  int64_t bytes_written = 0;
  int passes_max = 0;  // over a tensor, the last included
  // Outputs that a device merges, and the tiles that it is given.
  int64_t device_outputs = 0;
  int64_t device_tile_elements = 0;
};

struct OutputOptions {
  int threads = 1;
  int64_t memory_bytes = int64_t{2} << 30;
  TileDevice* device = nullptr;
};

// Elements of a tile that are worked on at a time, for a method that has to see
// `granule` elements together.
int64_t StripElements(int64_t tile_elements, int64_t granule);

// The tile of a tensor that effects change: rows of a matrix that a product of
// factors takes at once, where no more than one tile holds or not many.
int64_t EffectTileElements(int64_t tile_elements,
                           const std::vector<int64_t>& shape);

// How a plan fits the memory. Also makes every method once, so that parameters
// that do not go together are found here. FAILED_PRECONDITION with
// LIMIT_EXCEEDED when the memory is too small, saying what would be enough.
absl::StatusOr<OutputCost> CostOf(const OutputPlan& plan,
                                  const OutputOptions& options);

// Gives every input its random stream, and puts the inputs of symmetric
// methods into an order that follows from their content. The sources' files
// have to be there. Call once.
absl::Status BindInputs(OutputPlan& plan);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_OUTPUT_PLAN_H_
