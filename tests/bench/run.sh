#!/bin/bash
# Builds the benchmarks and runs them: `run.sh transfer` times pushes and pulls
# of 4 GiB (25 GB of disk under build/bench, about twenty minutes; more flags in
# transfer.py), `run.sh merge` a merge, `run.sh` both; `run.sh keeping` times
# import, export, verification and storage at rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
only=${1:-all}
[ $# -eq 0 ] || shift
deploy/build.sh
cmake --build build/release --target bench
if [ "$only" = keeping ]; then
  exec python3 tests/bench/keeping.py "$@"
fi
[ "$only" = merge ] || python3 tests/bench/transfer.py "$@"
[ "$only" = transfer ] || python3 tests/bench/bench.py "$@"
