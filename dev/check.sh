#!/usr/bin/env bash
# The checks that need no server: format, lints, tidiness, spelling, the compose file.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes postgres kafka install rust checks phases; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"

ensure_state
install_rust
install_missing install_build_needs
install_tools

# Of the whole workspace, so that it is built with the features that `make test` builds it with.
tidy() { cargo test -q ${CI:+--locked} --workspace --test it tidy:: </dev/null; }

phase format check_format
phase clippy check_clippy
phase tidy tidy
phase typos check_typos
phase compose check_compose
phases
