#!/usr/bin/env bash
# Checks formatting, clippy with warnings as errors for each major, the extension's script and the dependencies. Runs
# shellcheck if it is installed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

for tool in rustfmt clippy; do
    cargo "${tool/rustfmt/fmt}" --version >/dev/null 2>&1 || die "$tool is missing: rustup component add $tool"
done
scripts/setup.sh lint

say "words"
scripts/words.sh
say "cargo fmt"
cargo fmt --all --check
say "cargo clippy, the suite"
cargo clippy --quiet --package fluxbase_tenant_tests --all-targets -- -D warnings
for major in "${MAJORS[@]}"; do
    say "cargo clippy, the extension for PostgreSQL $major"
    cargo clippy --quiet --package fluxbase_tenant --lib --no-default-features --features "pg$major" -- -D warnings
done
say "the extension's script"
scripts/schema.sh --check
say "cargo deny"
deny() { .dev/cargo-deny/bin/cargo-deny "$@"; }
deny --log-level error check bans licenses sources
if deny fetch db >/dev/null 2>&1; then
    deny --log-level error --offline check advisories
else
    say "skipped advisories: their database cannot be reached"
fi
if command -v shellcheck >/dev/null; then
    say "shellcheck"
    shellcheck --external-sources --source-path=SCRIPTDIR scripts/*.sh .ci/run
fi
