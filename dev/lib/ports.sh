# shellcheck shell=bash disable=SC2034
# Where this stack is: its ports, its folders, the file of URLs. Everything moves with SECRETARIA_PORT_SHIFT.

readonly SHIFT=${SECRETARIA_PORT_SHIFT:-0}
[[ $SHIFT =~ ^(0|[1-9][0-9]{0,4})$ && $SHIFT -le 46000 ]] ||
    { echo "SECRETARIA_PORT_SHIFT must be a whole number from 0 to 46000 (best a multiple of 1000), not '$SHIFT'" >&2; exit 2; }

readonly HTTP_PORT=$((8080 + SHIFT)) SANDBOX_PORT=$((8090 + SHIFT)) POSTGRES_PORT=$((15432 + SHIFT))
readonly KAFKA_PORT=$((19092 + SHIFT)) KAFKA_CONTROLLER_PORT=$((19093 + SHIFT))

LOCAL=$ROOT/.local
if [[ $SHIFT == 0 ]]; then STATE=$LOCAL; else STATE=$LOCAL/shift-$SHIFT; fi
readonly LOCAL STATE LOGS=$STATE/log TOOLS=$LOCAL/tools

# The folder outside the clone, for what cannot live in it. It is a hash of who and where, so that `down` finds it again.
OUTSIDE=/var/tmp/secretaria-$(printf '%s:%s' "$(id -u)" "$ROOT" | sha256sum | cut -c1-12)
readonly OUTSIDE

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

ensure_state() {
    local folder
    for folder in "$LOCAL" "$STATE"; do
        [[ ! -e $folder || -O $folder ]] ||
            die "$folder belongs to $(stat -c %U "$folder"), and you are $(id -un): go on as that account, or remove that folder"
    done
    mkdir -p "$LOGS"
    (umask 077 && mkdir -p "$STATE/keys")
}

# Every other program reads where the stack is from here: `source .local/env`.
write_env() {
    local super=postgres://postgres@127.0.0.1:$POSTGRES_PORT base=127.0.0.1:$POSTGRES_PORT/secretaria
    {
        echo "# Written by dev/stack up. Addresses only: the local cluster has no passwords."
        printf 'export %s=%q\n' \
            SECRETARIA_PORT_SHIFT "$SHIFT" \
            SECRETARIA__POSTGRES__OWNER_URL "$super/secretaria" \
            SECRETARIA__POSTGRES__SERVICE_URL "postgres://secretaria_service@$base" \
            SECRETARIA__POSTGRES__API_URL "postgres://secretaria_api@$base" \
            SECRETARIA__POSTGRES__OPERATOR_URL "postgres://secretaria_operator@$base" \
            SECRETARIA__KAFKA__BOOTSTRAP "127.0.0.1:$KAFKA_PORT" \
            SECRETARIA__HTTP__LISTEN "127.0.0.1:$HTTP_PORT" \
            SECRETARIA__KEYS__DIR "$STATE/keys" \
            SECRETARIA__OBJECT_STORE__URL "$STATE/lake" \
            SANDBOX_LISTEN "127.0.0.1:$SANDBOX_PORT" \
            SECRETARIA_PG_ADMIN_URL "$super/postgres" \
            SECRETARIA_PG_SOCKET "$(pg_home)/run"
    } >"$STATE/env.new"
    mv "$STATE/env.new" "$STATE/env"
}

# Which process listens on a port, so that a person can end it. Empty when the port is free.
# Read from /proc, so that no other package is needed; only loopback and wildcard addresses conflict with ours.
port_holder() {
    local port=$1 hex local_address state uid inode _ pid
    hex=$(printf '%04X' "$port")
    while read -r _ local_address _ state _ _ _ uid _ inode _; do
        [[ $state == 0A && $local_address =~ ^(00000000|0100007F|0{32}|0000000000000000FFFF00000100007F):$hex$ ]] || continue
        pid=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null || true)
        pid=${pid#/proc/} pid=${pid%%/*}
        if [[ -n $pid ]]; then
            printf 'pid %s: %.80s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
        else
            printf 'a process of user %s\n' "$(getent passwd "$uid" | cut -d: -f1 | grep . || echo "$uid")"
        fi
        return
    done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
}

need_port() {
    local port=$1 what=$2 holder
    holder=$(port_holder "$port")
    [[ -z $holder ]] && return
    die "port $port, which $what needs, is taken by $holder
End that process, or move every port of this stack: SECRETARIA_PORT_SHIFT=2000 make up"
}
