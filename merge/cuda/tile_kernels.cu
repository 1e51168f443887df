#include <cuda_runtime.h>

#include "merge/cuda/launch_tile.h"

namespace cairn {
namespace {

constexpr unsigned kThreads = 256;
constexpr uint64_t kBlocksMax = 1 << 16;

template <ElementKind kind>
__global__ void CombineTile(const TileLaunch launch) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < launch.count; i += step) {
    CombineAt<kind>(launch, i);
  }
}

template <ElementKind kind>
void Launch(const TileLaunch& launch, cudaStream_t stream) {
  const uint64_t wanted = (launch.count + kThreads - 1) / kThreads;
  const uint64_t blocks = wanted < kBlocksMax ? wanted : kBlocksMax;
  CombineTile<kind>
      <<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(launch);
}

struct Launcher {
  const TileLaunch& launch;
  cudaStream_t stream;

  template <ElementKind kind>
  void operator()() const {
    Launch<kind>(launch, stream);
  }
};

}  // namespace

cudaError_t LaunchTile(const TileLaunch& launch, cudaStream_t stream) {
  if (launch.count == 0) return cudaSuccess;
  VisitKind(launch.rule.kind, Launcher{launch, stream});
  return cudaGetLastError();
}

cudaError_t CheckKernels() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes,
                               CombineTile<ElementKind::kWeightedSum>);
}

}  // namespace cairn
