#ifndef CAIRN_MERGE_ENGINE_TILE_DEVICE_H_
#define CAIRN_MERGE_ENGINE_TILE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/dtype.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// What a device does to every tile of a tensor: the bytes that come out are
// those that the processor would have made, a NaN's aside.
struct TileWork {
  ElementFormula formula;
  std::vector<DType> inputs;  // as they lie in a slot
  // Inputs are rounded to it before they are merged, the result after.
  DType work_dtype = DType::kF32;
  DType dtype = DType::kF32;  // of the result
};

// One thread's way to a device: a few slots, each with room for one tile, so
// that one is filled and emptied while another is computed. Failures are
// INTERNAL, or RESOURCE_EXHAUSTED where memory of host or device is short;
// after one, only the destructor may be called, which waits for what is under
// way. Not thread-safe.
class TileQueue {
 public:
  static constexpr int kSlots = 2;

  virtual ~TileQueue() = default;

  // What is done from now on, to tiles of at most `elements`. Nothing may be
  // under way.
  virtual absl::Status Begin(const TileWork& work, size_t elements) = 0;
  // Where the packed elements of an input go. Valid until Begin().
  virtual absl::Span<char> Input(int slot, size_t input) = 0;
  // Starts on the tile that lies in a slot: `count` elements of the tensor
  // from `first` on.
  virtual absl::Status Start(int slot, int64_t first, size_t count) = 0;
  // Waits for it. The packed result is valid until the slot is started again.
  virtual absl::StatusOr<absl::Span<const char>> Finish(int slot) = 0;
};

// Where tiles can be combined other than on the processor. Thread-safe.
class TileDevice {
 public:
  virtual ~TileDevice() = default;

  // As it is asked for, e.g. "cuda:0".
  virtual const std::string& name() const = 0;
  // For one thread; the device outlives it.
  virtual absl::StatusOr<std::unique_ptr<TileQueue>> OpenQueue() = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_TILE_DEVICE_H_
