#!/usr/bin/env bash
# Concatenates the files that src/lib.rs names to sql/fluxbase_tenant--VERSION.sql, which CREATE EXTENSION runs.
#   schema.sh          writes the script
#   schema.sh --check  fails if the script is not up to date
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=sql/fluxbase_tenant--$version.sql

script() {
    echo "-- Run by CREATE EXTENSION fluxbase_tenant. Generated from the files in sql/ by \`make schema\`: edit those."
    echo '\echo Use "CREATE EXTENSION fluxbase_tenant" to load this file. \quit'
    grep --only-matching 'sql/[a-z_/]*\.sql' src/lib.rs | while read -r file; do
        printf '\n-- %s\n\n' "$file"
        cat "$file"
    done
}

if [ "${1:-}" = --check ]; then
    script | diff --brief - "$target" >/dev/null || die "$target is not up to date with src/lib.rs and sql/: run make schema"
else
    script >"$target"
fi
