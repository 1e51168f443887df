#ifndef CAIRN_MERGE_CUDA_LAUNCH_TILE_H_
#define CAIRN_MERGE_CUDA_LAUNCH_TILE_H_

#include <cuda_runtime_api.h>

#include "merge/cuda/tile_kernels.h"

namespace cairn {

// Starts on a tile in the memory of the current device.
cudaError_t LaunchTile(const TileLaunch& launch, cudaStream_t stream);

// Whether the kernels were built for the current device.
cudaError_t CheckKernels();

}  // namespace cairn

#endif  // CAIRN_MERGE_CUDA_LAUNCH_TILE_H_
