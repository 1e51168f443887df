#!/bin/bash
# Configures and builds the release preset in build/release. Quick when
# nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f build/release/build.ninja ] || cmake --preset release
cmake --build build/release --parallel "$(nproc)"
