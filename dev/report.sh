#!/usr/bin/env bash
# Writes a company's report to ./reports, from the stack of this clone, which must be up: COMPANY_ID=1 FORMAT=xlsx dev/report.sh
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes install rust app; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"
[[ -n ${COMPANY_ID:-} ]] || die "which company? COMPANY_ID=1 make report"
[[ -r $STATE/env ]] || die "the stack of this clone is not up: make up"
install_rust
app_build
# shellcheck source=/dev/null
source "$STATE/env"
exec "$BINARIES/secretaria" report --company "$COMPANY_ID" --format "${FORMAT:-xlsx}"
