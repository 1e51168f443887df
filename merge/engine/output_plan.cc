#include "merge/engine/output_plan.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/lane_hasher.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/engine/device_merge.h"
#include "merge/method/counter_random.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 15;
constexpr int64_t kTileElementsMin = 1 << 12;
// Stacks, headers' strings and what a process has anyway.
constexpr int64_t kThreadBytes = 256 << 10;
// Large enough that starting on a tile costs nothing beside it.
constexpr int64_t kDeviceTileElements = 1 << 22;

// What waits for the disk while the next is made: large enough that the disk
// is busy with it, and a few more than are being filled.
constexpr int64_t kBufferBytes = 1 << 20;
constexpr int64_t kBufferBytesMin = 1 << 16;
constexpr int kSpareBuffers = 4;

struct Need {
  int64_t method = 0;  // bytes of methods and effects
  int64_t granule = 1;
  size_t inputs = 1;
  int64_t stored_width = 0;  // bytes of an element of all inputs, as stored
  int64_t effects = 0;       // inputs that effects change
  std::vector<int64_t> effect_shape = {};  // of an output made of such, alone
  int64_t device_width = 0;  // bytes an element of a slot of a device
};

// Bytes that an element takes in a slot: inputs as they are stored, those that
// adapters change as numbers, and the result.
int64_t SlotWidth(const OutputPlan& plan, const PlannedOutput& output) {
  int64_t bits = DTypeBits(output.dtype);
  for (const PlannedOutput::Input& input : output.inputs) {
    const SourceTensor* tensor = plan.sources[input.source]->Find(input.tensor);
    bits += DTypeBits(tensor->slot_dtype());
  }
  return bits / 8;
}

int BufferCount(const OutputCost& cost) {
  return cost.threads * cost.lanes + kSpareBuffers;
}

// A tile as it is stored, and in numbers where effects change it; a strip of
// every input and of the result in numbers.
int64_t TileBytesOf(const Need& need, const OutputCost& cost) {
  int64_t tile = TileElements(cost.tile_elements, need.granule);
  if (!need.effect_shape.empty()) {
    tile = EffectTileElements(tile, need.effect_shape);
  }
  const int64_t strip = StripElements(tile, need.granule);
  return tile * (need.stored_width + 4 * need.effects) +
         strip * 4 * (static_cast<int64_t>(need.inputs) + 1);
}

// The sum of the `count` largest.
int64_t SumOfLargest(std::vector<int64_t> numbers, int count) {
  std::sort(numbers.rbegin(), numbers.rend());
  numbers.resize(std::min(numbers.size(), static_cast<size_t>(count)));
  return std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
}

// The most that tensors can take: tiles of as many as there are threads, and
// what is held for as many as there are lanes.
int64_t BytesOf(const std::vector<Need>& needs, const OutputCost& cost) {
  std::vector<int64_t> tiles, methods;
  for (const Need& need : needs) {
    tiles.push_back(kThreadBytes + TileBytesOf(need, cost));
    methods.push_back(need.method);
  }
  return SumOfLargest(std::move(tiles), cost.threads) +
         SumOfLargest(std::move(methods), cost.threads * cost.lanes) +
         BufferCount(cost) * cost.buffer_bytes;
}

// The tensor that takes the most.
size_t LargestOf(const std::vector<Need>& needs, const OutputCost& cost) {
  const auto bytes = [&](const Need& need) {
    return need.method + TileBytesOf(need, cost);
  };
  const auto largest = std::max_element(
      needs.begin(), needs.end(),
      [&](const Need& a, const Need& b) { return bytes(a) < bytes(b); });
  return static_cast<size_t>(largest - needs.begin());
}

// Fits the slots of all threads into half of the memory; returns their bytes.
int64_t FitSlots(const std::vector<Need>& needs, const OutputOptions& options,
                 OutputCost& cost) {
  int64_t width = 0;
  for (const Need& need : needs) width = std::max(width, need.device_width);
  if (width == 0) return 0;
  const int64_t each = width * TileQueue::kSlots * std::max(1, options.threads);
  int64_t tile = kDeviceTileElements;
  while (tile > kDeviceElementsMin && each * tile > options.memory_bytes / 2) {
    tile /= 2;
  }
  cost.device_tile_elements = tile;
  return each * tile;
}

// Moves inputs into `order`.
void Reorder(const std::vector<size_t>& order, PlannedOutput& output) {
  std::vector<PlannedOutput::Input> inputs;
  std::vector<MethodTask::Input> tasks;
  std::optional<size_t> base;
  for (size_t to = 0; to < order.size(); ++to) {
    if (output.task.base == order[to]) base = to;
    inputs.push_back(std::move(output.inputs[order[to]]));
    tasks.push_back(std::move(output.task.inputs[order[to]]));
  }
  for (MethodTask::Input& input : tasks) {
    if (!input.fisher_of) continue;
    const auto to = std::find(order.begin(), order.end(), *input.fisher_of);
    input.fisher_of = static_cast<size_t>(to - order.begin());
  }
  output.inputs = std::move(inputs);
  output.task.inputs = std::move(tasks);
  output.task.base = base;
}

}  // namespace

int64_t StripElements(int64_t tile_elements, int64_t granule) {
  constexpr int64_t kStripElements = 1 << 12;
  return std::min(tile_elements, TileElements(kStripElements, granule));
}

int64_t EffectTileElements(int64_t tile_elements,
                           const std::vector<int64_t>& shape) {
  // As many as a product of factors takes at once; a tile of them may be so
  // many times larger than others.
  constexpr int64_t kRows = 24, kLeast = 4, kLarger = 16;
  if (shape.size() != 2 || shape.back() == 0) return tile_elements;
  const int64_t columns = shape.back();
  const int64_t rows = std::min(kRows, tile_elements * kLarger / columns);
  if (rows >= kRows) {
    return std::max(kRows, tile_elements / columns / kRows * kRows) * columns;
  }
  return rows < kLeast ? tile_elements : rows / kLeast * kLeast * columns;
}

absl::StatusOr<OutputCost> CostOf(const OutputPlan& plan,
                                  const OutputOptions& options) {
  OutputCost cost;
  std::vector<Need> needs;
  for (const PlannedOutput& output : plan.outputs) {
    Need need = {.inputs = output.inputs.size()};
    int passes = 1;
    if (output.method != nullptr) {
      auto method = MakeMethod(*output.method, output.task);
      if (!method.ok()) {
        return Annotate(method.status(),
                        absl::StrCat("tensor ", output.name, ": method ",
                                     output.method->name));
      }
      need.method = (*method)->memory_bytes();
      need.granule = (*method)->granule();
      for (int pass = 0; pass < (*method)->passes(); ++pass) {
        passes += (*method)->scope(pass) == PassScope::kAll ? 1 : 0;
      }
      if (options.device != nullptr && IsForDevice(output, **method)) {
        need.device_width = SlotWidth(plan, output);
        ++cost.device_outputs;
      }
    }
    cost.passes_max = std::max(cost.passes_max, passes);
    for (const PlannedOutput::Input& input : output.inputs) {
      const SourceTensor* tensor =
          plan.sources[input.source]->Find(input.tensor);
      need.stored_width += DTypeBits(tensor->spec.dtype) / 8;
      if (tensor->effect != nullptr) {
        need.method += tensor->effect->memory_bytes();
        ++need.effects;
      }
      cost.bytes_read += passes * tensor->spec.size_bytes();
    }
    cost.bytes_written += output.spec().size_bytes();
    if (need.effects > 0 && passes == 1 && need.granule == 1) {
      need.effect_shape = output.shape;
    }
    needs.push_back(std::move(need));
  }
  const int64_t slots = FitSlots(needs, options, cost);
  const auto bytes = [&] { return slots + BytesOf(needs, cost); };
  cost.threads = std::max(1, options.threads);
  // A device takes a tensor at a time.
  cost.lanes = options.device == nullptr ? LaneHasher::kLanes : 1;
  cost.tile_elements = kTileElements;
  cost.buffer_bytes = kBufferBytes;
  // More lanes save time only, so they get what is plenty.
  while (cost.lanes > 1 && bytes() > options.memory_bytes / 4) cost.lanes /= 2;
  const auto shrink = [&](auto& number, auto least) {
    while (bytes() > options.memory_bytes && number > least) number /= 2;
  };
  shrink(cost.buffer_bytes, kBufferBytesMin);
  shrink(cost.tile_elements, kTileElementsMin);
  while (bytes() > options.memory_bytes && cost.threads > 1) --cost.threads;
  cost.buffers = BufferCount(cost);
  cost.memory_bytes = bytes();
  if (cost.memory_bytes <= options.memory_bytes) return cost;
  return ReasonedError(
      absl::StatusCode::kFailedPrecondition, "LIMIT_EXCEEDED",
      absl::StrCat("this merge takes ", cost.memory_bytes,
                   " bytes of memory, for tensor ",
                   plan.outputs[LargestOf(needs, cost)].name, ", and ",
                   options.memory_bytes, " were granted: raise --memory"));
}

absl::Status BindInputs(OutputPlan& plan) {
  std::vector<uint64_t> content;
  for (const auto& source : plan.sources) {
    CAIRN_ASSIGN_OR_RETURN(content.emplace_back(), source->SampleContent());
  }
  for (PlannedOutput& output : plan.outputs) {
    if (output.method == nullptr) continue;
    const auto key = [&](size_t i) {
      return std::make_tuple(content[output.inputs[i].source],
                             output.inputs[i].tensor,
                             output.task.inputs[i].parameters);
    };
    std::vector<size_t> order(output.inputs.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (output.method->is_symmetric) {
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return key(a) < key(b); });
      Reorder(order, output);
    }
    // Equal models draw apart.
    std::map<uint64_t, uint64_t> seen;
    for (size_t i = 0; i < output.inputs.size(); ++i) {
      const uint64_t model = content[output.inputs[i].source];
      output.task.inputs[i].random_key =
          RandomKey(plan.seed, model + seen[model]++, output.name);
    }
  }
  return absl::OkStatus();
}

}  // namespace cairn
