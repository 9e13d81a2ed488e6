# shellcheck shell=bash
# A PostgreSQL cluster of our own: never the machine's, never as root, never beyond loopback.

# Debian's binaries of our major, else any other at least as new.
pg_bin() {
    local dir
    for dir in "/usr/lib/postgresql/$POSTGRES_MAJOR/bin" "$(pg_config --bindir 2>/dev/null)" /usr/lib/postgresql/*/bin; do
        [[ -x $dir/initdb && -x $dir/postgres ]] || continue
        (($("$dir/postgres" --version | grep -oE '[0-9]+' | head -n 1) >= POSTGRES_MAJOR)) && { echo "$dir"; return; }
    done
    return 1
}

# Postgres refuses to run as root: there it runs as the owner of the cluster, else as Debian's `postgres`, else as `nobody`.
pg_user() {
    local owner
    [[ $(id -u) == 0 ]] || { id -un; return; }
    owner=$(stat -c %U "$1" 2>/dev/null || true)
    for owner in "$owner" postgres nobody; do
        [[ -n $owner && $owner != root && $owner != UNKNOWN ]] && id -u "$owner" >/dev/null 2>&1 && { echo "$owner"; return; }
    done
    die "no account to run PostgreSQL as: install postgresql-$POSTGRES_MAJOR, or create the user 'postgres'"
}

as_pg_user() {
    local user
    user=$(pg_user "$PG_HOME")
    [[ $user == "$(id -un)" ]] && { "$@"; return; }
    setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$@"
}

# Whether a folder can be used. Its socket's path must fit, and the server's account must be able to enter it and keep it to itself.
pg_fits() {
    local home=$1 socket=$1/run/.s.PGSQL.$POSTGRES_PORT user
    [[ ${#socket} -le 107 && $home =~ ^[A-Za-z0-9_./\ +@-]+$ ]] || return 1
    mkdir -p "$home" 2>/dev/null || return 1
    user=$(pg_user "$home")
    if [[ $(id -u) == 0 ]]; then chown "$user:" "$home" || return 1; fi
    if chmod 0700 "$home" && [[ $(stat -c %a:%U "$home") == "700:$user" ]] && PG_HOME=$home as_pg_user test -w "$home/."; then
        return
    fi
    rmdir "$home" 2>/dev/null
    return 1
}

# Where the cluster is or would be. The one outside wins when it exists: it was chosen before.
pg_home() {
    if [[ -d $(pg_outside) ]]; then pg_outside; else echo "$STATE/postgres"; fi
}

pg_outside() { echo "$OUTSIDE/shift-$SHIFT/postgres"; }

pg_choose_home() {
    # The folder outside is where every account may write: an account that made it before us would own our data.
    [[ ! -e $OUTSIDE && ! -L $OUTSIDE || (-O $OUTSIDE && ! -L $OUTSIDE) ]] || die "$OUTSIDE is not ours: remove it first"
    if [[ -d $(pg_outside) ]] || ! pg_fits "$STATE/postgres"; then
        (umask 022 && mkdir -p "$OUTSIDE/shift-$SHIFT")
        pg_fits "$(pg_outside)" || die "PostgreSQL can keep its data neither in $STATE nor in $(pg_outside)"
    fi
    PG_HOME=$(pg_home)
    PG_BIN=$(pg_bin) || die "PostgreSQL $POSTGRES_MAJOR or newer is missing: run 'dev/stack install'"
    [[ $PG_HOME == "$STATE/postgres" ]] || say "postgres   keeps its data in $PG_HOME, because it cannot enter this clone or the path is too long"
}

pg_pid() {
    local home
    home=$(pg_home)
    running "$home/data/postmaster.pid" "-D $home/data" || running "$STATE/postgres.pid" "-D $home/data" || pid_by_argument "$home/data"
}

# The cluster is made beside its place and moved there complete, so that a first start that was interrupted leaves no half-made cluster.
pg_create() {
    [[ -d $PG_HOME/data ]] && return
    say "postgres   creating a cluster"
    rm -rf "$PG_HOME/data.new"
    (cd / && as_pg_user "$PG_BIN/initdb" -D "$PG_HOME/data.new" -U postgres -E UTF8 --locale C.UTF-8 --auth trust --data-checksums) \
        >"$LOGS/initdb.log" 2>&1 || show_failure initdb
    echo "include_if_exists 'stack.conf'" | as_pg_user tee -a "$PG_HOME/data.new/postgresql.conf" >/dev/null
    mv "$PG_HOME/data.new" "$PG_HOME/data"
}

# A pid file that a dead server left can name another process by now, and PostgreSQL would then refuse to start.
# It goes only when no process works in the data folder any more: a backend that lost its parent still writes there.
pg_forget_stale_pid() {
    [[ -e $PG_HOME/data/postmaster.pid ]] || return 0
    wait_until 15 pg_data_is_unused || die "processes of a dead server still hold $PG_HOME/data: $(pg_data_users | tr '\n' ' ')"
    rm -f "$PG_HOME/data/postmaster.pid"
    rm -rf "$PG_HOME/run"
}

pg_data_users() { find /proc/[0-9]*/cwd -maxdepth 0 -lname "$PG_HOME/data" 2>/dev/null | cut -d/ -f3; }
pg_data_is_unused() { [[ -z $(pg_data_users) ]]; }

pg_need_port() { [[ -n $(pg_pid) ]] || need_port "$POSTGRES_PORT" PostgreSQL; }

pg_start() {
    pg_choose_home
    if [[ -d $PG_HOME/data ]] && pg_pid >"$STATE/postgres.pid"; then return; fi
    pg_stop # A server whose data was deleted while it ran is of no use.
    pg_create
    pg_forget_stale_pid
    as_pg_user mkdir -p -m 0700 "$PG_HOME/run"
    as_pg_user tee "$PG_HOME/data/stack.conf" <"$ROOT/dev/postgres/postgresql.conf" >/dev/null
    as_pg_user tee "$PG_HOME/data/pg_hba.conf" <"$ROOT/dev/postgres/pg_hba.conf" >/dev/null
    local drop=()
    [[ $(id -u) != 0 ]] || drop=(setpriv --reuid "$(pg_user "$PG_HOME")" --regid "$(id -g "$(pg_user "$PG_HOME")")" --init-groups --)
    # The shell opens the log, so the server needs no way into the clone.
    cd / && start_in_background postgres "$STATE/postgres.pid" "${drop[@]}" "$PG_BIN/postgres" -D "$PG_HOME/data" -k "$PG_HOME/run" -p "$POSTGRES_PORT"
}

pg_await() {
    local pid
    pid=$(<"$STATE/postgres.pid")
    wait_until 60 pg_answers_or_died "$pid"
    pg_answers || show_failure postgres
    [[ $(pg_sql "select 1 from pg_database where datname = 'secretaria'") == 1 ]] || pg_sql "create database secretaria" >/dev/null
}

pg_answers() { "$PG_BIN/pg_isready" -q -U postgres -d postgres -h 127.0.0.1 -p "$POSTGRES_PORT"; }
pg_answers_or_died() { pg_answers || is_gone "$1"; }
pg_sql() { "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$POSTGRES_PORT" -U postgres -d postgres -c "$1" </dev/null; }

# INT is PostgreSQL's fast shutdown: TERM would wait for every client to leave.
pg_stop() {
    local pid
    pid=$(pg_pid) || { rm -f "$STATE/postgres.pid"; return 0; }
    stop_process postgres "$pid" INT QUIT
    rm -f "$STATE/postgres.pid"
}
