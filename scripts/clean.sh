#!/usr/bin/env bash
# Stops the demo server and removes everything that was built or fetched.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

if [ -e "$ROOT/.dev" ]; then
    "$ROOT/scripts/server.sh" stop 18
    # .dev can be a link to another folder.
    rm -rf "$(private_folder)" "$ROOT/.dev"
fi
rm -rf "$ROOT/target"
