#!/bin/bash
# Builds the benchmarks and runs them: throughput of push, pull and merge as
# ratios against raw baselines of the same run. Takes about ten minutes and
# 12 GB of disk under build/bench. `run.sh transfer` or `run.sh merge` runs one;
# `run.sh keeping` times import, export, verification and storage at rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/build.sh
cmake --build build/release --target bench
if [ "${1:-}" = keeping ]; then
  shift
  exec python3 tests/bench/keeping.py "$@"
fi
exec python3 tests/bench/bench.py "$@"
