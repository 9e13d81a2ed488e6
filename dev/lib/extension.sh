# shellcheck shell=bash disable=SC2034
# The PostgreSQL extension: on this machine where that is allowed, and in the database of the stack.

# install_extension: builds it and puts it where the server of this machine looks. Where that is not allowed it fails
# with 2, and EXTENSION_LEFT_OUT says why.
EXTENSION_LEFT_OUT=
install_extension() {
    local config
    config=$(pg_bin)/pg_config
    if [[ ! -w $("$config" --pkglibdir) ]] && ! may_be_root; then
        EXTENSION_LEFT_OUT="installing it needs root or passwordless sudo"
        return 2
    fi
    # In a shell of its own, because it gives up with an exit.
    if ! (install_missing install_extension_needs); then
        EXTENSION_LEFT_OUT="it needs $(install_extension_needs | paste -sd ' ')"
        return 2
    fi
    PG_CONFIG=$config "$ROOT/dev/install-extension.sh" </dev/null || return 1
}

# The version that this clone would install.
extension_version() { sed -n "s/^default_version *= *'\(.*\)'$/\1/p" "$ROOT/pg_extension/secretaria.control"; }

extension_sql() {
    "$(pg_bin)/psql" -X -q -A -t -v ON_ERROR_STOP=1 "${SECRETARIA__POSTGRES__OWNER_URL:?}" -c "set client_min_messages = warning" -c "$1" </dev/null
}

# Whose quota functions answer in the stack's database.
extension_in_use() { extension_sql "select extversion from pg_extension where extname = 'secretaria'"; }

# create_extension: after the migrations. Processes that are connected keep the functions they found, so ours is stopped.
create_extension() {
    local version
    version=$(extension_version)
    [[ $(extension_sql "select count(*) from pg_available_extension_versions where name = 'secretaria' and version = '$version'") == 1 ]] || return 0
    [[ $(extension_in_use) != "$version" ]] || return 0
    app_stop
    extension_sql "create extension if not exists secretaria" && extension_sql "alter extension secretaria update to '$version'"
    "$BINARIES/secretaria" rebind
}
