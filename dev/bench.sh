#!/usr/bin/env bash
# One benchmark against servers of its own, two thousand ports above the stack of this clone. It ends with one JSON line of ratios.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
export SECRETARIA_PORT_SHIFT=$((${SECRETARIA_PORT_SHIFT:-0} + 2000))
name=${1:?usage: dev/bench.sh NAME}
cd "$ROOT"
trap 'dev/stack clean >/dev/null' EXIT
dev/stack up
# shellcheck source=/dev/null
source ".local/shift-$SECRETARIA_PORT_SHIFT/env"
cargo bench --bench "$name"
