#!/usr/bin/env bash
# sql/fluxbase_tenant--VERSION.sql, which is what CREATE EXTENSION runs: the files that src/lib.rs names, one after the other.
#   schema.sh          writes it
#   schema.sh --check  fails where it is not what the files say
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
target=sql/fluxbase_tenant--$version.sql

script() {
    echo "-- What CREATE EXTENSION fluxbase_tenant runs. Made of the files in sql/ by \`make schema\`: change these."
    echo '\echo Use "CREATE EXTENSION fluxbase_tenant" to load this file. \quit'
    grep --only-matching 'sql/[a-z_/]*\.sql' src/lib.rs | while read -r file; do
        printf '\n-- %s\n\n' "$file"
        cat "$file"
    done
}

if [ "${1:-}" = --check ]; then
    script | diff --brief - "$target" >/dev/null || die "$target is not what src/lib.rs and sql/ say: make schema"
else
    script >"$target"
fi
