# shellcheck shell=bash
# What is checked without running anything, one function each, and the clock that names them as they pass.

PHASES=()

# phase NAME COMMAND…: runs it, remembers how long it took. A failure ends the script with its name.
phase() {
    local name=$1 began=$SECONDS
    shift
    say "==> $name"
    "$@" || die "==> $name FAILED after $((SECONDS - began)) s"
    PHASES+=("$(printf '%-12s %4d s' "$name" $((SECONDS - began)))")
}

phases() { printf '    %s\n' "${PHASES[@]}" "$(printf '%-12s %4d s' total "$SECONDS")"; }

check_format() { cargo fmt --all --check; }
# shellcheck disable=SC2086
check_clippy() { cargo clippy ${CI:+--locked} --workspace --all-targets -- -D warnings; }
check_typos() { "$TOOLS/venv/bin/typos" --config "$ROOT/typos.toml" "$ROOT"; }
check_compose() { "$TOOLS/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$ROOT/docker-compose.yml"; }
