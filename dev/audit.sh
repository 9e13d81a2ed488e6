#!/usr/bin/env bash
# Licences, advisories, bans and sources of every dependency (deny.toml). Outside `make test`: an advisory of today must not fail yesterday's commit.
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
install_cargo_deny
exec "$TOOLS/cargo/bin/cargo-deny" check
