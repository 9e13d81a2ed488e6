#!/usr/bin/env bash
# From a fresh clone to the main job done and visible. Its exit code is the demo's; the stack stays up.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes postgres kafka install rust app extension next_steps; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"

ensure_state
install_rust
install_missing install_stack_needs install_build_needs
"$ROOT/dev/stack" up
say "building   (the first time takes five minutes or so on two cores)"
app_build
code=0
install_extension || code=$?
[[ $code != 1 ]] || die "the extension could not be built"
app_settings
app_migrate
create_extension
sandbox_start
app_start

code=0
"$BINARIES/demo" || code=$?
next_steps
say ""
version=$(extension_in_use)
if [[ -n $version ]]; then
    say "Quota questions were answered by the extension secretaria $version, inside PostgreSQL."
else
    say "Quota questions were answered by the PL/pgSQL functions. The extension is left out: ${EXTENSION_LEFT_OUT:-it is not in this database}."
fi
again=
[[ $SHIFT == 0 ]] || again="SECRETARIA_PORT_SHIFT=$SHIFT "
say "The stack is still up. To stop it: ${again}make down (the data stays). To delete its data too: ${again}make clean"
exit "$code"
