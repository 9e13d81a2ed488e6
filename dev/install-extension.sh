#!/usr/bin/env bash
# Builds the extension and puts it where the server of this machine looks for it. Safe to repeat.
#
#   PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config dev/install-extension.sh
#
# Sessions that loaded the library before keep the old one until they end. Nothing is created in any database:
# that is `create extension secretaria`.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes install rust; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"

fail() {
    echo "install-extension: $*" >&2
    exit 1
}

# The one that was named, else the newest release that is supported, else the one on the path.
pg_config=${PG_CONFIG:-}
if [ -z "$pg_config" ]; then
    for release in 18 17 16 15 14; do
        candidate=/usr/lib/postgresql/$release/bin/pg_config
        if [ -x "$candidate" ]; then
            pg_config=$candidate
            break
        fi
    done
fi
pg_config=${pg_config:-$(command -v pg_config || true)}
[ -x "$pg_config" ] || fail "no pg_config; set PG_CONFIG to the one of the server"

release=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
case $release in
14 | 15 | 16 | 17 | 18) ;;
*) fail "PostgreSQL $release is not supported: 14 to 18 are" ;;
esac
[ -f "$("$pg_config" --includedir-server)/postgres.h" ] ||
    fail "the server's headers are missing; on Debian: apt-get install postgresql-server-dev-$release"
# bindgen reads the headers with libclang.
if [ -z "${LIBCLANG_PATH:-}" ] &&
    ! compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null &&
    ! compgen -G '/usr/lib/*/libclang*.so*' >/dev/null; then
    fail "libclang is missing; on Debian: apt-get install libclang-dev clang"
fi

ensure_state
install_rust
echo "building for PostgreSQL $release"
(
    cd pg_extension
    PGRX_PG_CONFIG_PATH=$pg_config nice cargo build --release --locked --no-default-features --features "pg$release"
)

built=${CARGO_TARGET_DIR:-$ROOT/target}/release/libsecretaria.so
libraries=$("$pg_config" --pkglibdir)
scripts=$("$pg_config" --sharedir)/extension
is_installed() {
    local file
    cmp -s "$built" "$libraries/secretaria.so" && [ "$(readlink "$libraries/secretaria_bindings.so")" = secretaria.so ] || return
    for file in pg_extension/secretaria.control pg_extension/sql/secretaria--*.sql; do
        cmp -s "$file" "$scripts/${file##*/}" || return
    done
}
if is_installed; then
    echo "$libraries/secretaria.so is this one already"
    exit
fi

as_owner=()
if [ ! -w "$libraries" ] || [ ! -w "$scripts" ]; then
    command -v sudo >/dev/null || fail "$libraries and $scripts are not writable; run this as root, or install sudo"
    as_owner=(sudo)
fi

# A new file under a new inode: a running server keeps the library it has loaded.
"${as_owner[@]}" install -m 755 "$built" "$libraries/secretaria.so.new"
"${as_owner[@]}" mv "$libraries/secretaria.so.new" "$libraries/secretaria.so"
# The name under which bindings are found by sessions that loaded a library without them: see secretaria--0.3.0.sql.
"${as_owner[@]}" ln -sfn secretaria.so "$libraries/secretaria_bindings.so"
"${as_owner[@]}" install -m 644 pg_extension/secretaria.control pg_extension/sql/secretaria--*.sql "$scripts/"
echo "installed $libraries/secretaria.so; next, in the database: create extension secretaria, or: alter extension secretaria update"
echo "policies and triggers that ask the PL/pgSQL functions go on doing so until: secretaria rebind"
