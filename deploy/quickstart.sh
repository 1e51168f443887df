#!/bin/bash
# From a bare Debian 12 machine to a running community: installs packages,
# builds, and runs the demo. As root, or with sudo. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/install_packages.sh
deploy/build.sh
exec tests/demo/demo.sh
