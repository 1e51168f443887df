#!/bin/bash
# Installs packages, builds, and runs every test. The last line is
# "N passed, N failed"; exits 0 when none failed. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/install_packages.sh
deploy/build.sh

log=build/release/tests.log
ctest --test-dir build/release --output-on-failure --parallel "$(nproc)" \
  2>&1 | tee "$log" || true
summary=$(grep -E '^[0-9]+% tests passed' "$log") || {
  echo "ctest ran no tests" >&2
  exit 1
}
failed=$(sed -E 's/.* ([0-9]+) tests? failed out of .*/\1/' <<<"$summary")
total=$(sed -E 's/.* out of ([0-9]+).*/\1/' <<<"$summary")
echo "$((total - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
