# shellcheck shell=bash
# What is checked without running anything, one function each.

check_format() { cargo fmt --all --check; }
check_clippy() { cargo clippy ${CI:+--locked} --workspace --all-targets -- -D warnings; }
# The extension's lints, and its format.
check_extension() {
    (
        cd "$ROOT/pg_extension" && cargo fmt --check &&
            PGRX_PG_CONFIG_PATH=$(pg_bin)/pg_config cargo clippy --release --locked --all-targets -- -D warnings
    )
}
check_typos() { "$TOOLS/venv/bin/typos" --config "$ROOT/typos.toml" "$ROOT"; }
check_compose() { "$TOOLS/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec "$ROOT/docker-compose.yml"; }
