#!/usr/bin/env bash
# Runs the suite against the installed extension, without setting up or building it.
# FLUXBASE_TENANT_PG names the servers: majors of private servers or paths of pg_config, separated by commas.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

exec cargo test --package fluxbase_tenant_tests -- "$@"
