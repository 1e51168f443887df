#!/bin/bash
# Simulates authors against the gate and the screens at full size and draws a
# report: tests/bench/vetting_report/run.sh [CAMPAIGNS]   (200 by default).
# The report lies in
# build/bench/vetting_report/report.md.
set -euo pipefail
cd "$(dirname "$0")/../../.."
campaigns=${1:-200}
out=build/bench/vetting_report
mkdir -p "$out"
[ -f build/release/build.ninja ] || cmake --preset release
cmake --build build/release --target vetting_report
program=build/release/tests/bench/vetting_report

# run NAME WHAT COUNT
run() { "$program" "$2" "$3" > "$out/$1.part" && mv "$out/$1.part" "$out/$1.json"; }
(
  run null-random random "$campaigns"
  run null-boosting boosting "$campaigns"
  run null-claim-probing 'claim probing' "$campaigns"
  run power power 300
) &
run null-margin-probing 'margin probing' "$campaigns"
run null-hill-climbing 'hill climbing' "$campaigns"
run overfit overfit "$campaigns"
run plants plants "$campaigns"
run non-finite non-finite "$campaigns"
wait $!
python3 tests/bench/vetting_report/report.py "$out"
