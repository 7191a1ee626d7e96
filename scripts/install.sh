#!/usr/bin/env bash
# Builds the extension and installs it into a server.
#   install.sh 15|18       installs into that private server, debug profile
#   install.sh PG_CONFIG   installs into the server of that pg_config
# PROFILE=release selects the release profile.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || die "usage: install.sh MAJOR|PG_CONFIG"
case $1 in
    [0-9]*) pg_config=$(private_pg_config "$1") private=1 ;;
    *) pg_config=$(realpath "$(command -v "$1" || true)") private= ;;
esac
[ -x "$pg_config" ] || die "no pg_config at ${pg_config:-$1}"
major=$(pg_major "$pg_config")
headers=$("$pg_config" --includedir-server)
[ -e "$headers/postgres.h" ] || die "the server's headers are missing in $headers (Debian's package postgresql-server-dev-$major)"
profile=${PROFILE:-dev}
library=$("$pg_config" --pkglibdir)/fluxbase_tenant.so

# Prints the checksums of the build's inputs. A private server that has this build already is skipped.
sources() {
    cd "$ROOT"
    find Cargo.toml Cargo.lock fluxbase_tenant.control src sql -type f -print0 | sort -z | xargs -0 sha256sum
}
key="$profile $(rustc --version) $(sources | sha256sum)"
stamp=$ROOT/.dev/stamps/install-$major
if [ -n "$private" ] && is_done "install-$major" "$key" && [ -e "$library" ] && [ ! "$library" -nt "$stamp" ]; then
    exit
fi

# Selects the server that pgrx builds for, whatever its configuration lists.
export PGRX_PG_CONFIG_PATH=$pg_config
cd "$ROOT"
build() {
    "$ROOT/.dev/cargo-pgrx/bin/cargo-pgrx" pgrx install --package fluxbase_tenant --profile "$profile" \
        --no-default-features --features "pg$major" --pg-config "$pg_config"
    install_script
}

# The script that the build generates differs in the order of its files and in comments. The checked-in script must be
# equivalent, and is the one that is installed.
install_script() {
    local version generated
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    generated=$("$pg_config" --sharedir)/extension/fluxbase_tenant--$version.sql
    diff <(bare "$generated") <(bare "sql/fluxbase_tenant--$version.sql") >&2 ||
        die "sql/fluxbase_tenant--$version.sql differs from what the build generates: run make schema"
    cp "sql/fluxbase_tenant--$version.sql" "$generated"
}

# Prints a script without comments and empty lines.
bare() {
    sed -e '/^\/\*/,/\*\/$/d' -e '/^ *--/d' -e '/^\\echo/d' -e '/^[[:space:]]*$/d' "$1"
}
message="Building fluxbase_tenant for PostgreSQL $major"
[ -e "target/$([ "$profile" = dev ] && echo debug || echo "$profile")" ] || message="$message, the first time about 2 minutes"
run_logged "install-$major" "$message" build
if [ -n "$private" ]; then
    mark_done "install-$major" "$key"
else
    say "Installed into $("$pg_config" --pkglibdir) and $("$pg_config" --sharedir)/extension"
fi
