#!/usr/bin/env bash
# Formatting, clippy with warnings as errors for each major, shellcheck where it is installed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

for tool in rustfmt clippy; do
    cargo "${tool/rustfmt/fmt}" --version >/dev/null 2>&1 || die "$tool is missing: rustup component add $tool"
done
scripts/setup.sh check

say "cargo fmt"
cargo fmt --all --check
say "cargo clippy, the suite"
cargo clippy --quiet --package fluxbase_tenant_tests --all-targets -- -D warnings
for major in "${MAJORS[@]}"; do
    say "cargo clippy, the extension for PostgreSQL $major"
    cargo clippy --quiet --package fluxbase_tenant --lib --no-default-features --features "pg$major" -- -D warnings
done
if command -v shellcheck >/dev/null; then
    say "shellcheck"
    shellcheck --external-sources --source-path=SCRIPTDIR scripts/*.sh .ci/run
fi
