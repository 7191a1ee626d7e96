#!/usr/bin/env bash
# Sets up, builds, and runs the whole suite on every private server. Arguments, such as a name,
# are passed to the test runner.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

scripts/setup.sh check
for major in "${MAJORS[@]}"; do scripts/install.sh "$major"; done
# Last, so that the output ends with the test runner's summary.
exec scripts/installcheck.sh "$@"
