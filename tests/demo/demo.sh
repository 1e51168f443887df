#!/bin/bash
# The whole way of an update on this machine, in build/demo: see README.md
# beside this file. Needs the programs of build/release.
set -euo pipefail
cd "$(dirname "$0")/../.."
CAIRN_BIN=${CAIRN_BIN:-$PWD/build/release/bin} exec python3 -B -u tests/demo/demo.py build/demo
