# shellcheck shell=bash
# The parts of a run by name, with the seconds that each took: one after the other, or beside the others.

PHASES=()
declare -A BESIDE=()

# phase NAME COMMAND…: runs it, remembers how long it took. A failure ends the script with its name.
phase() {
    local name=$1 began=$SECONDS
    shift
    say "==> $name"
    if ! "$@"; then
        record "$name" "$began" "$SECONDS" FAILED
        die "==> $name FAILED after $((SECONDS - began)) s"
    fi
    record "$name" "$began" "$SECONDS"
}

record() { PHASES+=("$(printf '%-20s from %4d s  %5d s%s' "$1" "$2" $(($3 - $2)) "${4:+  $4}")"); }

# [AFTER=OTHER] beside NAME COMMAND…: begins it in the background, when OTHER has ended, with what the phases in front
# of it leave of the processors. What it prints is kept until `join`.
beside() {
    local name=$1 folder=$LOCAL/beside-$SHIFT after=${AFTER:-}
    shift
    mkdir -p "$folder"
    rm -f "$folder/$name".*
    # In a process group of its own, so that everything it started can be ended.
    set -m
    (
        trap - EXIT INT TERM HUP
        renice -n 10 -p "$BASHPID" >/dev/null
        while [[ -n $after && ! -e $folder/$after.end ]]; do sleep 0.2; done
        echo "$SECONDS" >"$folder/$name.began"
        code=0
        ("$@") || code=$?
        echo "$SECONDS $code" >"$folder/$name.end.new"
        mv "$folder/$name.end.new" "$folder/$name.end"
    ) </dev/null >"$folder/$name.log" 2>&1 7>&- &
    set +m
    BESIDE[$name]=$!
}

# join NAME: waits for it, prints what it printed, and fails as a phase does.
join() {
    local name=$1 folder=$LOCAL/beside-$SHIFT ended=$SECONDS code=1
    wait "${BESIDE[$name]}" || true
    unset "BESIDE[$name]"
    say "==> $name (in the background)"
    cat "$folder/$name.log"
    [[ ! -e $folder/$name.end ]] || read -r ended code <"$folder/$name.end"
    if [[ $code != 0 ]]; then
        record "$name" "$(began_beside "$name")" "$ended" FAILED
        die "==> $name FAILED after $((ended - $(began_beside "$name"))) s"
    fi
    record "$name" "$(began_beside "$name")" "$ended" "in the background"
}

began_beside() { cat "$LOCAL/beside-$SHIFT/$1.began" 2>/dev/null || echo "$SECONDS"; }

# Those that nothing waits for any more, because the run failed or was stopped.
end_beside() {
    local name
    for name in "${!BESIDE[@]}"; do
        kill -TERM -- "-${BESIDE[$name]}" 2>/dev/null || true
        wait "${BESIDE[$name]}" 2>/dev/null || true
        record "$name" "$(began_beside "$name")" "$SECONDS" "ended early; what it said: $LOCAL/beside-$SHIFT/$name.log"
    done
    BESIDE=()
}

phases() { printf '    %s\n' "${PHASES[@]}" "$(printf '%-20s from %4d s  %5d s' total 0 "$SECONDS")"; }
