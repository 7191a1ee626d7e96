#!/usr/bin/env bash
# Back to a bare clone.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

if [ -e "$ROOT/.dev" ]; then
    "$ROOT/scripts/server.sh" stop 18
    # .dev may be a link to a folder elsewhere.
    rm -rf "$(private_folder)" "$ROOT/.dev"
fi
rm -rf "$ROOT/target"
