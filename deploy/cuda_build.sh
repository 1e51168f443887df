#!/bin/bash
# Compiles and links the CUDA build in build/cuda where there is neither a GPU
# nor a CUDA toolkit, with nvcc from PyPI's wheels, and runs those of its tests
# that need no GPU. With the folder `torch` of a PyPI wheel, the worker's part
# is built against that libtorch too. Quick when nothing changed.
#   deploy/cuda_build.sh [TORCH]
set -euo pipefail
cd "$(dirname "$0")/.."
torch=${1:-}
toolkit=build/cuda_toolkit
[ -d "$toolkit" ] || python3 -m venv "$toolkit"
"$toolkit/bin/pip" install --quiet nvidia-cuda-nvcc nvidia-cuda-runtime \
  nvidia-cuda-cccl nvidia-nvvm nvidia-cuda-crt
nvcc=$(find "$PWD/$toolkit" -path '*/nvidia/*/bin/nvcc' | head -n 1)
[ -n "$nvcc" ] || { echo "the wheels hold no nvcc" >&2; exit 1; }

targets=(cairn-merge merge_cuda_test merge_cuda_parity)
[ -z "$torch" ] || targets+=(merge_tensor_test cairn-worker)
cmake --preset release -B build/cuda -DCAIRN_CUDA=ON \
  -DCMAKE_CUDA_COMPILER="$nvcc" -DCAIRN_TORCH_WHEEL="$torch"
cmake --build build/cuda --parallel "${JOBS:-$(nproc)}" --target "${targets[@]}"

build/cuda/merge/cuda/merge_cuda_test
build/cuda/merge/cuda/merge_cuda_parity  # skips where there is no GPU
[ -z "$torch" ] || build/cuda/merge/tensor/merge_tensor_test
