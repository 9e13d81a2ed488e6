#!/usr/bin/env bash
# PostgreSQL in a container. On an empty volume it first creates a cluster with the database and the accounts that log in;
# passwords come from the environment. With arguments it runs those instead, such as psql.
set -euo pipefail
[[ $# == 0 ]] || exec "$@"

readonly BIN=/usr/lib/postgresql/15/bin HOME_FOLDER=/var/lib/postgresql
PATH=$BIN:$PATH

# Created beside its place and moved there complete, so that a first start that was cut short leaves nothing half made.
create_cluster() {
    local new=$HOME_FOLDER/data.new
    rm -rf "$new"
    initdb -D "$new" -U postgres -E UTF8 --locale C.UTF-8 --data-checksums \
        --auth-local peer --auth-host scram-sha-256 --pwfile <(printf '%s\n' "${POSTGRES_PASSWORD:?}")
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    # By its socket only: no one else connects before the accounts exist.
    pg_ctl -D "$new" -w -o "-c listen_addresses=''" start
    createdb secretaria
    psql --no-psqlrc -v ON_ERROR_STOP=1 -d secretaria -f /opt/secretaria/roles.sql
    pg_ctl -D "$new" -w -m fast stop
    mv "$new" "$HOME_FOLDER/data"
}

if [[ -e $HOME_FOLDER/PG_VERSION ]]; then
    echo "the volume holds a cluster at its root, as the compose file before 0.3.0 made it: move its files into the folder data" >&2
    exit 1
fi
[[ -d $HOME_FOLDER/data ]] || create_cluster
exec postgres -D "$HOME_FOLDER/data" -c listen_addresses='*' -c max_connections=200
