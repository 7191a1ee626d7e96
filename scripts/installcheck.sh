#!/usr/bin/env bash
# The suite against what is installed: no set-up, no build of the extension.
# FLUXBASE_TENANT_PG names the servers: majors of private servers or paths of pg_config, with commas between.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

exec cargo test --package fluxbase_tenant_tests -- "$@"
