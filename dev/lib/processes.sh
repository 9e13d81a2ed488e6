# shellcheck shell=bash
# Starting, recognising and stopping what runs in the background. A pid file alone is never trusted.

# Is this pid ours? The marker is a text that only our process has on its command line.
is_ours() {
    local pid=$1 marker=$2 words=()
    [[ $pid =~ ^[1-9][0-9]*$ && -r /proc/$pid/cmdline ]] || return 1
    mapfile -d '' -t words <"/proc/$pid/cmdline" 2>/dev/null || return 1
    [[ "${words[*]} " == *"$marker "* ]]
}

# The pid in a pid file when it is alive and ours; else nothing, and failure.
running() {
    local file=$1 marker=$2 pid=''
    [[ ! -r $file ]] || read -r pid <"$file" || true
    is_ours "$pid" "$marker" && echo "$pid"
}

# The process that has this very argument. For a process that still runs although the folder with its pid file was deleted.
pid_by_argument() {
    local found
    # The text comes by a file: as an argument, grep would find itself.
    found=$(grep -lsxzF -f <(printf '%s\n' "$1") /proc/[0-9]*/cmdline | head -n 1) || true
    [[ $found =~ ^/proc/([0-9]+)/cmdline$ ]] && echo "${BASH_REMATCH[1]}"
}

# Starts a command in a session of its own, so that neither Ctrl-C nor the end of make ends it.
# The last start's log is kept beside the new one.
start_in_background() {
    local name=$1 pid_file=$2
    shift 2
    [[ -f $LOGS/$name.log ]] && mv -f "$LOGS/$name.log" "$LOGS/$name.log.1"
    (
        close_descriptors
        exec setsid "$@"
    ) </dev/null >"$LOGS/$name.log" 2>&1 &
    echo $! >"$pid_file"
    disown
}

# Everything but input, output and errors: a server must not hold the stack's lock, or a lock of the one who called make.
close_descriptors() {
    local descriptor
    for descriptor in "/proc/$BASHPID/fd"/*; do
        descriptor=${descriptor##*/}
        # Bash keeps some for itself, which exec closes.
        ((descriptor <= 2 || descriptor >= 250)) || eval "exec $descriptor>&-"
    done
}

# wait_until SECONDS COMMAND…: asks ten times a second.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

is_gone() { [[ ! -d /proc/$1 ]] || grep -qs '^State:.*Z' "/proc/$1/status"; }

# stop_process NAME PID SIGNAL…: each signal gets fifteen seconds, and KILL is the last.
stop_process() {
    local name=$1 pid=$2 signal
    shift 2
    for signal in "$@" KILL; do
        kill -s "$signal" "$pid" 2>/dev/null || is_gone "$pid" || die "$name (pid $pid) belongs to $(stat -c %U "/proc/$pid"), so it was not stopped"
        wait_until 15 is_gone "$pid" && { say "$name stopped"; return; }
        say "$name (pid $pid) did not end on $signal"
    done
    return 1
}

# When a process began: together with its number it names one process, because numbers are used again.
began_at() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) && cut -d' ' -f20 <<<"${stat##*) }"
}

uptime_of() {
    local since seconds
    since=$(began_at "$1")
    seconds=$(($(cut -d. -f1 /proc/uptime) - since / $(getconf CLK_TCK)))
    printf '%dh%02dm%02ds' $((seconds / 3600)) $((seconds / 60 % 60)) $((seconds % 60))
}

describe() {
    local name=$1 port=$2 pid=$3
    if [[ -n $pid ]]; then
        printf '%-10s running   pid %-8s port %-6s up %s\n' "$name" "$pid" "$port" "$(uptime_of "$pid")"
    else
        printf '%-10s not running\n' "$name"
    fi
}

show_failure() {
    local name=$1
    say "--- the end of $LOGS/$name.log" >&2
    tail -n 25 "$LOGS/$name.log" >&2 || true
    die "--- $name failed"
}
