#!/usr/bin/env bash
# Everything CI runs: the checks, the build, and every test with a PostgreSQL and a Kafka of its own.
# The servers live a thousand ports above the stack of this clone, and are gone when this ends, however it ends.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
export SECRETARIA_PORT_SHIFT=$((${SECRETARIA_PORT_SHIFT:-0} + 1000))
for part in ../versions ports processes postgres kafka install checks; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"
# The settings of a stack somebody sourced are not for the tests.
for name in $(compgen -v SECRETARIA__) SANDBOX_LISTEN; do unset "$name"; done

mkdir -p "$LOCAL"
exec 7>"$LOCAL/test-$SHIFT.lock"
flock -n 7 || die "another 'make test' is running in this clone"
stack() { "$ROOT/dev/stack" "$@" 7>&- </dev/null; }

# A run that was killed may have left its servers: every run begins with none. Chained, because `phase` sees the last status only.
begin() {
    stack clean >/dev/null && stack install || return
    # In a shell of its own, because it gives up with an exit: what only the extension needs stops nothing else.
    (install_missing install_extension_needs) || say "the extension's needs cannot be installed here"
    stack up
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # Nothing may cut the cleaning short.
    stack clean >/dev/null || say "the test servers could not be stopped: SECRETARIA_PORT_SHIFT=$SHIFT make clean"
    if [[ $code == 0 ]]; then summary; else say "make test FAILED"; fi
    exit "$code"
}

# Before the tests, some of which ask it. Its library goes where the server looks, which is root's.
install_extension() {
    local config
    config=$(pg_bin)/pg_config
    if [[ ! -w $("$config" --pkglibdir) ]] && ! sudo -n true 2>/dev/null; then
        say "LEFT OUT: installing the extension needs root or passwordless sudo"
        return
    fi
    if [[ -n $(install_extension_needs) ]]; then
        say "LEFT OUT: the extension needs $(install_extension_needs | tr '\n' ' ')"
        return
    fi
    PG_CONFIG=$config "$ROOT/dev/install-extension.sh" </dev/null || return
    EXTENSION=installed
}

# Rules inside PostgreSQL, as a workspace of its own.
extension() {
    local config
    config=$(pg_bin)/pg_config
    if [[ $EXTENSION == missing ]]; then
        say "LEFT OUT: the tests of the extension, which is not installed"
        return
    fi
    (
        export PGRX_PG_CONFIG_PATH=$config SECRETARIA_TEST=all
        export SECRETARIA_TEST_POSTGRES=postgres://postgres@127.0.0.1:$POSTGRES_PORT/postgres
        # What PL/pgSQL promises, asked of the extension; and the pipeline over it.
        SECRETARIA_TEST_EXTENSION=all cargo test ${CI:+--locked} --test quota || exit
        SECRETARIA_TEST_EXTENSION=all SECRETARIA_TEST_KAFKA=127.0.0.1:$KAFKA_PORT \
            cargo test ${CI:+--locked} --test it limits || exit
        cd "$ROOT/pg_extension" || exit
        cargo fmt --check && cargo clippy --release --locked --all-targets -- -D warnings && cargo test --release --locked
    ) </dev/null
}

build() { cargo build ${CI:+--locked} --workspace --bins </dev/null; }

tests() {
    SECRETARIA_TEST=all \
        SECRETARIA_TEST_POSTGRES=postgres://postgres@127.0.0.1:$POSTGRES_PORT/postgres \
        SECRETARIA_TEST_KAFKA=127.0.0.1:$KAFKA_PORT \
        SECRETARIA_TEST_KAFKA_PID=$(awk '{ print $1; exit }' "$STATE/kafka.pid") \
        cargo test ${CI:+--locked} --workspace </dev/null 2>&1 | tee "$LOCAL/test.log"
}

# What is served, held against the document that says what is served.
contract() { "$ROOT/dev/contract.sh" 7>&- </dev/null; }

summary() {
    phases
    say "test results by binary (all of it: .local/test.log):"
    awk '/^ *(Running|Doc-tests) /{sub(/^ +/, ""); sub(/ \(.*/, ""); name = $0}
         /^test result: /{print "    " name; print $0; passed += $4; failed += $6; ignored += $8}
         END {printf "test result: %d passed; %d failed; %d ignored, all binaries together\n", passed, failed, ignored}' "$LOCAL/test.log"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
phase servers begin
phase format check_format
phase clippy check_clippy
phase typos check_typos
phase compose check_compose
phase build build
EXTENSION=missing
phase install install_extension
phase contract contract
phase tests tests
phase extension extension
