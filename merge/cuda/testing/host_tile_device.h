#ifndef CAIRN_MERGE_CUDA_TESTING_HOST_TILE_DEVICE_H_
#define CAIRN_MERGE_CUDA_TESTING_HOST_TILE_DEVICE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "merge/cuda/tile_layout.h"
#include "merge/engine/tile_device.h"

namespace cairn::testing {

// A device whose kernels are loops on the processor over the very functions
// that the CUDA kernels call. A tile is computed when it is waited for, so that
// whoever takes a slot too early sees it.
class HostTileQueue : public TileQueue {
 public:
  absl::Status Begin(const TileWork& work, size_t elements) override {
    formula_ = work.formula;
    layout_ = TileLayout(work, elements);
    for (Slot& slot : slots_) {
      slot.bytes.assign(layout_.size(), '\x7f');
      slot.inputs = layout_.Inputs(slot.bytes.data());
      slot.launch = layout_.Launch(slot.bytes.data());
      slot.launch.rule = formula_.rule;
      slot.launch.members = formula_.members.data();
      slot.launch.weights = formula_.weights.data();
      slot.launch.inputs = slot.inputs.data();
    }
    return absl::OkStatus();
  }

  absl::Span<char> Input(int slot, size_t input) override {
    return {slots_[slot].bytes.data() + layout_.offset(input),
            layout_.bytes(input)};
  }

  absl::Status Start(int slot, int64_t first, size_t count) override {
    if (slots_[slot].is_started) return absl::InternalError("slot is taken");
    slots_[slot].is_started = true;
    slots_[slot].launch.first = static_cast<uint64_t>(first);
    slots_[slot].launch.count = count;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const char>> Finish(int index) override {
    Slot& slot = slots_[index];
    if (!slot.is_started) return absl::InternalError("slot was not started");
    slot.is_started = false;
    VisitKind(formula_.rule.kind, [&]<ElementKind kind>() {
      for (uint64_t i = 0; i < slot.launch.count; ++i) {
        CombineAt<kind>(slot.launch, i);
      }
    });
    return absl::Span<const char>(slot.bytes.data() + layout_.out_offset(),
                                  slot.launch.count * layout_.out_width());
  }

 private:
  struct Slot {
    std::vector<char> bytes;
    std::vector<TileInput> inputs;
    TileLaunch launch;
    bool is_started = false;
  };

  ElementFormula formula_;
  TileLayout layout_;
  Slot slots_[kSlots];
};

class HostTileDevice : public TileDevice {
 public:
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<TileQueue>> OpenQueue() override {
    return std::make_unique<HostTileQueue>();
  }

 private:
  const std::string name_ = "host";
};

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_CUDA_TESTING_HOST_TILE_DEVICE_H_
