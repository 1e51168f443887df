#ifndef CAIRN_MERGE_WORKER_DEVICE_CLASS_H_
#define CAIRN_MERGE_WORKER_DEVICE_CLASS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// What kind of machine scores are computed on, e.g.
// "cpu-x86_64-avx2-openblas-zen-k3": the device, the instruction set that
// libtorch's kernels use, the library of matrix products with its kernels, and
// the revision of our own, "-bf16" where that multiplies BF16 by an instruction
// of the machine; or "cuda-nvidia-h200": the model of the GPU.
// Scores of one class agree to the last digits; those of different classes are
// never paired.
std::string DeviceClass(absl::string_view device);

}  // namespace cairn

#endif  // CAIRN_MERGE_WORKER_DEVICE_CLASS_H_
