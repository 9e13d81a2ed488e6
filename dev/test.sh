#!/usr/bin/env bash
# Everything CI runs: the checks, the build, and every test with a PostgreSQL and a Kafka of its own.
# The servers listen 1000 and 1500 ports above the stack of this clone, and are gone when this ends, however it ends.
#
# Most tests wait for a server much of the time, so that the extension is built, its tests and the lints run beside them,
# at a lower priority. The extension has servers of its own, because roles belong to a whole cluster.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
export SECRETARIA_PORT_SHIFT=$((${SECRETARIA_PORT_SHIFT:-0} + 1000))
for part in ../versions ports processes postgres kafka install rust extension checks phases; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"
# Settings that were sourced for the stack of this clone are not for the tests.
for name in $(compgen -v SECRETARIA__) SANDBOX_LISTEN; do unset "$name"; done
readonly OTHER_SHIFT=$((SHIFT + 500))

mkdir -p "$LOCAL"
exec 7>"$LOCAL/test-$SHIFT.lock"
flock -n 7 || die "another 'make test' is running in this clone"
exec 8>"$LOCAL/test-$OTHER_SHIFT.lock"
flock -n 8 || die "another 'make test' of this clone has its servers at shift $OTHER_SHIFT"
stack() { "$ROOT/dev/stack" "$@" 7>&- 8>&- </dev/null; }
other_stack() { SECRETARIA_PORT_SHIFT=$OTHER_SHIFT nice "$ROOT/dev/stack" "$@" 7>&- 8>&- </dev/null; }

# A run that was killed may have left its servers: every run begins with none. Chained, because `phase` sees the last status only.
begin() {
    stack clean >/dev/null && other_stack clean >/dev/null && stack install || return
    # In a shell of its own, because it gives up with an exit: what only the extension needs stops nothing else.
    (install_missing install_extension_needs) || say "the extension's needs cannot be installed here"
    stack up && other_stack up
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # Nothing may cut the cleaning short.
    end_beside
    stack clean >/dev/null || say "the test servers could not be stopped: SECRETARIA_PORT_SHIFT=$SHIFT make clean"
    other_stack clean >/dev/null || say "the test servers could not be stopped: SECRETARIA_PORT_SHIFT=$OTHER_SHIFT make clean"
    phases
    if [[ $code == 0 ]]; then summary; else failures; fi
    exit "$code"
}

# Before the tests, some of which ask it. Its library goes where the server looks, which is root's.
extension_build() {
    local code=0
    install_extension || code=$?
    [[ $code != 2 ]] || { say "LEFT OUT: the extension; $EXTENSION_LEFT_OUT" && [[ -z ${CI:-} ]] && return; }
    [[ $code == 0 ]] && touch "$STATE/extension-is-installed"
}

# What the PL/pgSQL functions promise, asked of the extension; and the pipeline over it.
on_the_extension() {
    local other=postgres://postgres@127.0.0.1:$((POSTGRES_PORT + 500))/postgres kafka=127.0.0.1:$((KAFKA_PORT + 500))
    [[ -e $STATE/extension-is-installed ]] || { say "LEFT OUT: the extension is not installed" && return; }
    export SECRETARIA_TEST=all SECRETARIA_TEST_EXTENSION=all SECRETARIA_TEST_POSTGRES=$other SECRETARIA_TEST_KAFKA=$kafka
    cargo test ${CI:+--locked} --workspace --test quota && cargo test ${CI:+--locked} --workspace --test it limits::
}

# The lints of both workspaces. They lock the folder of the build, so they begin when the test programs have been started.
lints() {
    check_clippy || return
    [[ ! -e $STATE/extension-is-installed ]] || check_extension
}

# Both before the tests, which run beside what would wait for the same folder.
build() { cargo test ${CI:+--locked} --workspace --no-run </dev/null && cargo build ${CI:+--locked} --workspace --bins </dev/null; }

tests() {
    local without=()
    [[ -e $STATE/extension-is-installed ]] || without=(--exclude extension-tests)
    SECRETARIA_TEST=all \
        SECRETARIA_TEST_POSTGRES=postgres://postgres@127.0.0.1:$POSTGRES_PORT/postgres \
        SECRETARIA_TEST_KAFKA=127.0.0.1:$KAFKA_PORT \
        SECRETARIA_TEST_KAFKA_PID=$(awk '{ print $1; exit }' "$STATE/kafka.pid") \
        cargo test ${CI:+--locked} --workspace "${without[@]}" </dev/null 2>&1 | tee "$LOCAL/test.log"
}

# What is served, held against the document that says what is served.
contract() { "$ROOT/dev/contract.sh" 7>&- </dev/null; }

summary() {
    say "test results by binary (all of it: .local/test.log):"
    awk '/^ *(Running|Doc-tests) /{sub(/^ +/, ""); sub(/ \(.*/, ""); name = $0}
         /^test result: /{print "    " name; print $0; passed += $4; failed += $6; ignored += $8}
         END {printf "test result: %d passed; %d failed; %d ignored, all binaries together\n", passed, failed, ignored}' "$LOCAL/test.log"
}

failures() {
    grep -hsE '^test .* FAILED$' "$LOCAL/test.log" "$LOCAL/beside-$SHIFT"/*.log || true
    say "make test FAILED"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf "$LOCAL/test.log" "$LOCAL/beside-$SHIFT"
ensure_state
install_rust # Here, where a terminal can be asked.
phase servers begin
beside install extension_build
phase format check_format
phase typos check_typos
phase compose check_compose
phase build build
phase contract contract
join install
beside extension on_the_extension
AFTER=extension beside clippy lints
phase tests tests
join extension
join clippy
