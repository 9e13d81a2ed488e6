# shellcheck shell=bash
# Our own processes on top of the stack: the sandbox that plays the providers, and `secretaria`.

BINARIES=${CARGO_TARGET_DIR:-$ROOT/target}/debug

# The settings of a laptop, the same for `make demo`, `make dev` and `make worker`. Time runs fifty times faster in delivery and alerts.
app_settings() {
    # shellcheck source=/dev/null
    source "$STATE/env"
    export SECRETARIA__REPLY__MODEL__BASE_URL=http://$SANDBOX_LISTEN
    export SECRETARIA__REPLY__MODEL__API_KEY=sandbox
    export SECRETARIA__REPLY__QUIET_MS=500
    export SECRETARIA__DELIVERY__TIME_SCALE=0.02
    export SECRETARIA__ARCHIVE__BATCH_WAIT_MS=500 SECRETARIA__ROLLUPS__EVERY_MS=1000
    # The sandbox receives webhooks too, on this machine and without TLS.
    export SECRETARIA__ALERTS__TIME_SCALE=0.02 SECRETARIA__ALERTS__ALLOW_PRIVATE=true
    # The sandbox is on this machine; a proxy meant for the world could not reach it.
    export NO_PROXY=127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}
}

app_build() { (cd "$ROOT" && cargo build ${CI:+--locked} -p secretaria -p sandbox -p demo --bins </dev/null); }
app_migrate() { "$BINARIES/secretaria" migrate; }

app_pid() { running "$STATE/app.pid" "$BINARIES/secretaria all"; }
sandbox_pid() { running "$STATE/sandbox.pid" "$BINARIES/secretaria-sandbox --listen"; }

# One that runs an older build is replaced: cargo writes a new file, so the running one is another inode.
runs_current() { [[ $(stat -L -c %d:%i "/proc/$1/exe" 2>/dev/null) == "$(stat -L -c %d:%i "$2")" ]]; }

sandbox_start() {
    local pid
    pid=$(sandbox_pid) && runs_current "$pid" "$BINARIES/secretaria-sandbox" && return
    sandbox_stop
    need_port "$SANDBOX_PORT" "the sandbox"
    start_in_background sandbox "$STATE/sandbox.pid" "$BINARIES/secretaria-sandbox" --listen "$SANDBOX_LISTEN"
    wait_until 20 listening_or_died "$SANDBOX_PORT" "$(<"$STATE/sandbox.pid")"
    listening "$SANDBOX_PORT" || show_failure sandbox
}

app_start() {
    local pid
    pid=$(app_pid) && runs_current "$pid" "$BINARIES/secretaria" && return
    app_stop
    need_port "$HTTP_PORT" secretaria
    start_in_background app "$STATE/app.pid" "$BINARIES/secretaria" all
    wait_until 60 app_ready_or_died "$(<"$STATE/app.pid")"
    app_ready || show_failure app
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
listening_or_died() { listening "$1" || is_gone "$2"; }
app_ready() { curl -fsS -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:$HTTP_PORT/readyz" 2>/dev/null; }
app_ready_or_died() { app_ready || is_gone "$1"; }

app_stop() { stop_by_pid_file app "$(app_pid)"; }
sandbox_stop() { stop_by_pid_file sandbox "$(sandbox_pid)"; }
stop_by_pid_file() {
    local name=$1 pid=$2
    [[ -z $pid ]] || stop_process "$name" "$pid" TERM
    rm -f "$STATE/$name.pid"
}

# What runs in the foreground of some terminal (`make dev`, `make worker`): a file each, named by the process and holding
# when it began. The process may outlive its terminal, and `down` ends it.
FOREGROUND=$STATE/foreground

# exec_in_foreground ARG…: this shell becomes `secretaria ARG…`, with the number and the beginning of this shell.
exec_in_foreground() {
    mkdir -p "$FOREGROUND"
    began_at $$ >"$FOREGROUND/$$"
    exec "$BINARIES/secretaria" "$@"
}

# Those that still run; the files of the others go.
foreground_pids() {
    local file pid
    for file in "$FOREGROUND"/*; do
        [[ -e $file ]] || continue
        pid=${file##*/}
        if [[ $(<"$file") != "$(began_at "$pid")" ]]; then
            rm -f "$file"
        elif is_ours "$pid" "$BINARIES/secretaria"; then
            echo "$pid"
        fi
    done
}

foreground_stop() {
    local pid
    for pid in $(foreground_pids); do
        stop_process "$(foreground_name "$pid")" "$pid" TERM
        rm -f "$FOREGROUND/$pid"
    done
}

# As it was asked for: `secretaria process --only reply`.
foreground_name() {
    local words
    mapfile -d '' -t words <"/proc/$1/cmdline"
    echo "secretaria ${words[*]:1}"
}
