#!/usr/bin/env bash
# Formats the code of both workspaces.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes install rust; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"
ensure_state
install_rust
cargo fmt --all
cargo fmt --all --manifest-path pg_extension/Cargo.toml
