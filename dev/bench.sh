#!/usr/bin/env bash
# One benchmark with a PostgreSQL and a Kafka of its own, two thousand ports above the stack of this clone; both are
# gone when this ends, however it ends. The last line is the benchmark's JSON. Further arguments go to the benchmark.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
export SECRETARIA_PORT_SHIFT=$((${SECRETARIA_PORT_SHIFT:-0} + 2000))
# A broker as it is run for load: compiled code, enough memory, and the garbage collector of a server.
export SECRETARIA_KAFKA_JVM=${SECRETARIA_KAFKA_JVM:--Xms1g -Xmx1g -XX:+UseParallelGC -XX:ParallelGCThreads=2 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true -Djava.net.preferIPv4Stack=true}
for part in ../versions ports processes postgres kafka install rust peers; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"
name=${1:?usage: dev/bench.sh NAME [ARGUMENT…]}
shift
# Settings that were sourced for the stack of this clone are not for the benchmark, except for what it logs.
for setting in $(compgen -v SECRETARIA__ | grep -vE "^SECRETARIA__(TELEMETRY|KAFKA__LINGER)_") SANDBOX_LISTEN; do unset "$setting"; done

mkdir -p "$LOCAL"
exec 7>"$LOCAL/bench-$SHIFT.lock"
flock -n 7 || die "another benchmark is running in this clone"
stack() { "$ROOT/dev/stack" "$@" 7>&- </dev/null; }

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # Nothing may cut the cleaning short, and nothing be said after the last line.
    stack clean >/dev/null || say "the servers could not be stopped: SECRETARIA_PORT_SHIFT=$SHIFT make clean" >&2
    exit "$code"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
ensure_state
install_rust
install_missing install_build_needs
if [[ $name == quota ]]; then
    install_missing install_extension_needs
    PG_CONFIG=$(pg_bin)/pg_config "$ROOT/dev/install-extension.sh" </dev/null
    SECRETARIA_PGBENCH=$(pg_bin)/pgbench
    export SECRETARIA_PGBENCH
fi
if [[ $name == engine ]]; then
    install_missing install_peer_needs
    build_parallel_consumer
    build_graphile
    SECRETARIA_BENCH_PEERS=$(peers_folder) SECRETARIA_BENCH_JAVA=$(java_bin)
    export SECRETARIA_BENCH_PEERS SECRETARIA_BENCH_JAVA
fi
# Built before the servers start, so that they are not idle while it compiles.
cargo bench ${CI:+--locked} --bench "$name" --no-run </dev/null
stack clean >/dev/null
stack up
# shellcheck source=/dev/null
source "$STATE/env"
SECRETARIA_KAFKA_PID=$(kafka_pid)
export SECRETARIA_KAFKA_PID
cargo bench ${CI:+--locked} --bench "$name" -- "$@" 7>&- </dev/null
