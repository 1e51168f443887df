#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/device_name.h"
#include "core/base/status_macros.h"
#include "merge/cuda/launch_tile.h"
#include "merge/cuda/open_device.h"
#include "merge/cuda/tile_layout.h"

namespace cairn {
namespace {

absl::Status CudaStatus(cudaError_t error, absl::string_view doing) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(doing, ": CUDA says ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) {
    return absl::ResourceExhaustedError(
        absl::StrCat(text, "; a smaller --memory or fewer --threads take less"));
  }
  return absl::InternalError(text);
}

struct FreeHost {
  void operator()(char* bytes) const { cudaFreeHost(bytes); }
};
struct FreeDevice {
  void operator()(char* bytes) const { cudaFree(bytes); }
};
using HostBytes = std::unique_ptr<char, FreeHost>;
using DeviceBytes = std::unique_ptr<char, FreeDevice>;

// Makes `bytes` hold at least `size`, with new content.
absl::Status Grow(size_t size, HostBytes& bytes, size_t& held) {
  if (size <= held) return absl::OkStatus();
  bytes.reset();
  held = 0;
  void* made = nullptr;
  CAIRN_RETURN_IF_ERROR(
      CudaStatus(cudaHostAlloc(&made, size, cudaHostAllocDefault),
                 absl::StrCat("taking ", size, " bytes of pinned memory")));
  bytes.reset(static_cast<char*>(made));
  held = size;
  return absl::OkStatus();
}

absl::Status Grow(size_t size, DeviceBytes& bytes, size_t& held) {
  if (size <= held) return absl::OkStatus();
  bytes.reset();
  held = 0;
  void* made = nullptr;
  CAIRN_RETURN_IF_ERROR(
      CudaStatus(cudaMalloc(&made, size),
                 absl::StrCat("taking ", size, " bytes of device memory")));
  bytes.reset(static_cast<char*>(made));
  held = size;
  return absl::OkStatus();
}

// A slot is a stream of its own with pinned memory here and memory there, so
// that copies of one overlap the kernel of another.
class CudaTileQueue : public TileQueue {
 public:
  explicit CudaTileQueue(int device) : device_(device) {}

  ~CudaTileQueue() override {
    cudaSetDevice(device_);
    for (Slot& slot : slots_) {
      if (slot.stream == nullptr) continue;
      cudaStreamSynchronize(slot.stream);
      cudaStreamDestroy(slot.stream);
    }
  }

  absl::Status Init() {
    CAIRN_RETURN_IF_ERROR(
        CudaStatus(cudaSetDevice(device_), "choosing a device"));
    for (Slot& slot : slots_) {
      CAIRN_RETURN_IF_ERROR(CudaStatus(
          cudaStreamCreateWithFlags(&slot.stream, cudaStreamNonBlocking),
          "making a stream"));
    }
    return absl::OkStatus();
  }

  absl::Status Begin(const TileWork& work, size_t elements) override {
    CAIRN_RETURN_IF_ERROR(
        CudaStatus(cudaSetDevice(device_), "choosing a device"));
    layout_ = TileLayout(work, elements);
    const ElementFormula& formula = work.formula;
    const size_t member_bytes = formula.members.size() * sizeof(ElementMember);
    const size_t weight_bytes = formula.weights.size() * sizeof(float);
    CAIRN_RETURN_IF_ERROR(
        Grow(std::max<size_t>(1, member_bytes), members_, members_held_));
    CAIRN_RETURN_IF_ERROR(
        Grow(std::max<size_t>(1, weight_bytes), weights_, weights_held_));
    CAIRN_RETURN_IF_ERROR(Upload(formula.members.data(), member_bytes,
                                 members_.get()));
    CAIRN_RETURN_IF_ERROR(Upload(formula.weights.data(), weight_bytes,
                                 weights_.get()));
    for (Slot& slot : slots_) {
      CAIRN_RETURN_IF_ERROR(Prepare(formula, slot));
    }
    return absl::OkStatus();
  }

  absl::Span<char> Input(int slot, size_t input) override {
    return {slots_[slot].host.get() + layout_.offset(input),
            layout_.bytes(input)};
  }

  absl::Status Start(int index, int64_t first, size_t count) override {
    Slot& slot = slots_[index];
    CAIRN_RETURN_IF_ERROR(
        CudaStatus(cudaSetDevice(device_), "choosing a device"));
    for (size_t i = 0; i < layout_.inputs(); ++i) {
      CAIRN_RETURN_IF_ERROR(CudaStatus(
          cudaMemcpyAsync(slot.device.get() + layout_.offset(i),
                          slot.host.get() + layout_.offset(i),
                          count * layout_.width(i), cudaMemcpyHostToDevice,
                          slot.stream),
          "copying a tile to the device"));
    }
    slot.launch.first = static_cast<uint64_t>(first);
    slot.launch.count = count;
    CAIRN_RETURN_IF_ERROR(
        CudaStatus(LaunchTile(slot.launch, slot.stream), "starting a kernel"));
    return CudaStatus(
        cudaMemcpyAsync(slot.host.get() + layout_.out_offset(),
                        slot.device.get() + layout_.out_offset(),
                        count * layout_.out_width(), cudaMemcpyDeviceToHost,
                        slot.stream),
        "copying a tile from the device");
  }

  absl::StatusOr<absl::Span<const char>> Finish(int index) override {
    Slot& slot = slots_[index];
    CAIRN_RETURN_IF_ERROR(
        CudaStatus(cudaStreamSynchronize(slot.stream), "merging a tile"));
    return absl::Span<const char>(slot.host.get() + layout_.out_offset(),
                                  slot.launch.count * layout_.out_width());
  }

 private:
  struct Slot {
    cudaStream_t stream = nullptr;
    HostBytes host;
    DeviceBytes device;
    size_t host_held = 0, device_held = 0;
    TileLaunch launch;
  };

  static absl::Status Upload(const void* from, size_t bytes, char* to) {
    if (bytes == 0) return absl::OkStatus();
    return CudaStatus(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice),
                      "copying a formula to the device");
  }

  // The table of inputs lies behind the tile.
  absl::Status Prepare(const ElementFormula& formula, Slot& slot) {
    const size_t table = layout_.size();
    CAIRN_RETURN_IF_ERROR(Grow(layout_.size(), slot.host, slot.host_held));
    CAIRN_RETURN_IF_ERROR(
        Grow(table + layout_.inputs() * sizeof(TileInput), slot.device,
             slot.device_held));
    const std::vector<TileInput> inputs = layout_.Inputs(slot.device.get());
    CAIRN_RETURN_IF_ERROR(Upload(inputs.data(),
                                 inputs.size() * sizeof(TileInput),
                                 slot.device.get() + table));
    slot.launch = layout_.Launch(slot.device.get());
    slot.launch.rule = formula.rule;
    slot.launch.members =
        reinterpret_cast<const ElementMember*>(members_.get());
    slot.launch.weights = reinterpret_cast<const float*>(weights_.get());
    slot.launch.inputs =
        reinterpret_cast<const TileInput*>(slot.device.get() + table);
    return absl::OkStatus();
  }

  const int device_;
  TileLayout layout_;
  DeviceBytes members_, weights_;
  size_t members_held_ = 0, weights_held_ = 0;
  Slot slots_[kSlots];
};

class CudaTileDevice : public TileDevice {
 public:
  explicit CudaTileDevice(int index)
      : index_(index), name_(absl::StrCat("cuda:", index)) {}

  const std::string& name() const override { return name_; }

  absl::StatusOr<std::unique_ptr<TileQueue>> OpenQueue() override {
    auto queue = std::make_unique<CudaTileQueue>(index_);
    CAIRN_RETURN_IF_ERROR(queue->Init());
    return queue;
  }

 private:
  const int index_;
  const std::string name_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TileDevice>> OpenTileDevice(
    absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(const std::optional<int> index, ParseDeviceName(name));
  if (!index) return nullptr;
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || *index >= count) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device ", name, " is not there",
        counted == cudaSuccess
            ? ""
            : absl::StrCat(" (CUDA says ", cudaGetErrorString(counted), ")"),
        "; cpu is"));
  }
  CAIRN_RETURN_IF_ERROR(
      CudaStatus(cudaSetDevice(*index), absl::StrCat("choosing ", name)));
  // Threads that wait for the device sleep, so that others read, hash and
  // write. Older runtimes refuse once the device is in use: they spin.
  if (cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync) != cudaSuccess) {
    (void)cudaGetLastError();
  }
  if (const cudaError_t built = CheckKernels(); built != cudaSuccess) {
    return absl::FailedPreconditionError(absl::StrCat(
        "device ", name, ": the kernels were not built for it (CUDA says ",
        cudaGetErrorString(built), "); see CMAKE_CUDA_ARCHITECTURES"));
  }
  return std::make_unique<CudaTileDevice>(*index);
}

}  // namespace cairn
