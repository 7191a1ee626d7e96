#!/usr/bin/env bash
# Controls the demo server, which is in .dev/demo, listens only on a Unix socket, and needs no password. Its data is
# disposable.
#   server.sh start|stop|status|reset MAJOR
#   server.sh psql MAJOR [psql's arguments]
set -euo pipefail
source "$(dirname "$0")/lib.sh"

[ $# -ge 2 ] || die "usage: server.sh start|stop|status|reset|psql MAJOR"
command=$1 major=$2
shift 2
bin=$(dirname "$(private_pg_config "$major")")
home=$(private_folder)/demo/$major
data=$home/data
# The owner of the data runs the server, even if server_user would now choose another user.
if [ -d "$data" ]; then SERVER_USER=$(stat -c %U "$data"); fi

socket() { cat "$home/socket" 2>/dev/null || true; }

pg_ctl() {
    cd "$home"
    as_server "$bin/pg_ctl" --pgdata="$data" --silent "$@"
}

running() { [ -d "$data" ] && (pg_ctl status >/dev/null); }

owned_by_server() {
    mkdir -p "$1"
    if [ "$(id -u)" -eq 0 ]; then chown "$(server_user)" "$1"; fi
}

initialize() {
    owned_by_server "$home"
    (
        cd "$home"
        as_server "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync \
            >"$home/initdb.log" 2>&1
    ) || die "initdb failed, see $home/initdb.log"
}

start() {
    running && return
    [ -d "$data" ] || initialize
    # A path in /tmp is short enough for a socket, wherever the clone is.
    local folder
    folder=$(mktemp -d /tmp/fluxbase.XXXXXX)
    owned_by_server "$folder"
    echo "$folder" >"$home/socket"
    # Without preloading, a forged setting would stay in effect until the first call of the extension
    # (see docs/security.md).
    (pg_ctl start --wait --log="$home/server.log" --options="-c listen_addresses='' \
        -c unix_socket_directories='$folder' -c session_preload_libraries='fluxbase_tenant'" >/dev/null) ||
        die "the server did not start, see $home/server.log"
}

stop() {
    if running; then (pg_ctl stop --wait --mode=fast); fi
    local folder
    folder=$(socket)
    if [ -n "$folder" ]; then rm -rf "$folder" "$home/socket"; fi
}

psql() {
    running || die "the demo server is not running: run make demo"
    unset PGPORT PGSERVICE PGOPTIONS PGHOSTADDR
    # PGUSER and PGDATABASE override the demo's defaults.
    PGHOST=$(socket) PGUSER=${PGUSER:-postgres} PGDATABASE=${PGDATABASE:-demo} exec "$bin/psql" "$@"
}

case $command in
    start) start ;;
    stop) stop ;;
    status) if running; then echo "running, socket in $(socket)"; else echo "not running"; fi ;;
    reset)
        stop
        rm -rf "$home"
        start
        ;;
    psql) psql "$@" ;;
    *) die "usage: server.sh start|stop|status|reset|psql MAJOR" ;;
esac
