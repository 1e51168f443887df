#!/bin/bash
# Builds the benchmarks and runs them: `run.sh transfer` times pushes and pulls
# of 4 GiB (25 GB of disk under build/bench, about twenty minutes; more flags in
# transfer.py), `run.sh merge` a merge, `run.sh` both; `run.sh keeping` times
# import, export, verification and storage at rest; `run.sh delta` prints what
# releases cost as differences, `run.sh positions` what listed positions do;
# `run.sh merging` times merges by every kind of
# method, and `run.sh bandwidth` what elementwise ones make of the memory's;
# `run.sh forward` times a forward pass beside libtorch's plain operators.
set -euo pipefail
cd "$(dirname "$0")/../.."
only=${1:-all}
[ $# -eq 0 ] || shift
if [ "$only" = delta ]; then
  cmake --preset release > /dev/null
  cmake --build build/release --target delta_table
  # With the demo's model and the release that it became, where it was run.
  models=()
  if [ -d build/demo/base ] && [ -d build/demo/pulled ]; then
    models=(build/demo/base build/demo/pulled)
  fi
  exec build/release/tests/bench/delta_table "${models[@]}"
fi
if [ "$only" = positions ]; then
  cmake --preset release > /dev/null
  cmake --build build/release --target position_table
  exec build/release/tests/bench/position_table
fi
if [ "$only" = bandwidth ]; then
  cmake --preset release > /dev/null
  cmake --build build/release --target bandwidth
  exec build/release/tests/bench/bandwidth "$@"
fi
if [ "$only" = forward ]; then
  cmake --preset release > /dev/null
  cmake --build build/release --target forward_bench
  exec build/release/tests/bench/forward_bench "$@"
fi
deploy/build.sh
cmake --build build/release --target bench
if [ "$only" = keeping ]; then
  exec python3 tests/bench/keeping.py "$@"
fi
if [ "$only" = merging ]; then
  exec python3 tests/bench/merging.py "$@"
fi
[ "$only" = merge ] || python3 tests/bench/transfer.py "$@"
[ "$only" = transfer ] || python3 tests/bench/bench.py "$@"
