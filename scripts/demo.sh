#!/usr/bin/env bash
# Turns a bare clone into a running database with tenants, members and migrated schemas, ready to be queried.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

MAJOR=18
scripts/setup.sh demo
scripts/install.sh "$MAJOR"
say "Starting a fresh demo server, PostgreSQL $MAJOR, on a Unix socket only"
scripts/server.sh reset "$MAJOR"
PGDATABASE=postgres scripts/server.sh psql "$MAJOR" -X -q -c 'CREATE DATABASE demo'

for script in examples/demo/*.sql; do
    say "$script"
    scripts/server.sh psql "$MAJOR" -X -v ON_ERROR_STOP=1 <"$script" 2>&1
done

cat <<'TEXT'

==> The demo server is running. Three things to type next:
    make psql                                           a session in the database "demo"
    SELECT slug, status, schema_name FROM tenant_list();    in that session: the tenants
    make stop                                           stops the server; make demo starts a fresh one
TEXT
