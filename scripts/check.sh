#!/usr/bin/env bash
# Set-up, build and the whole suite on every private server. Arguments go to the test runner, a name for example.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

scripts/setup.sh check
for major in "${MAJORS[@]}"; do scripts/install.sh "$major"; done
# Last, so that the output closes on the runner's own count.
exec scripts/installcheck.sh "$@"
