#!/usr/bin/env bash
# Whether what is served is what the OpenAPI document says. Schemathesis reads the document from a running `secretaria api`
# and sends every route generated requests, the same ones each time: no 5xx but what is documented, no undocumented status, no
# body of another shape. The hooks go to a `secretaria ingest`. Both run over a database and topics of their own, with two
# companies. Needs the stack of this shift, the tools and the binaries; `make test` has them all, on its own ports.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
for part in ../versions ports processes postgres kafka install app; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"

readonly DATABASE=contract COMPANY=clinica-sorriso.contract OTHER=salao-bela.contract SECRET=contract-secret-for-tests
readonly API_PORT=$HTTP_PORT INGEST_PORT=$SANDBOX_PORT
readonly ADMIN=postgres://postgres@127.0.0.1:$POSTGRES_PORT
readonly HERE=$STATE/contract
readonly SHAPE=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
readonly EXAMPLES=${CONTRACT_EXAMPLES:-100}
secretaria=$BINARIES/secretaria

settings() {
    local base=127.0.0.1:$POSTGRES_PORT/$DATABASE
    export SECRETARIA__POSTGRES__OWNER_URL=$ADMIN/$DATABASE
    export SECRETARIA__POSTGRES__SERVICE_URL=postgres://secretaria_service@$base
    export SECRETARIA__POSTGRES__API_URL=postgres://secretaria_api@$base
    export SECRETARIA__POSTGRES__OPERATOR_URL=postgres://secretaria_operator@$base
    export SECRETARIA__KAFKA__BOOTSTRAP=127.0.0.1:$KAFKA_PORT SECRETARIA__KAFKA__PREFIX=contract.
    export SECRETARIA__KEYS__DIR=$HERE/keys SECRETARIA__OBJECT_STORE__URL=$HERE/lake
    export NO_PROXY=127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}
}

sql() { "$(pg_bin)/psql" -X -q -v ON_ERROR_STOP=1 "$@" >/dev/null; }

# Two companies with something to show, and the first one, which migrations make.
prepare() {
    local domain
    stop
    rm -rf "$HERE" && (umask 077 && mkdir -p "$HERE/keys")
    sql "$ADMIN/postgres" -c "drop database if exists $DATABASE with (force)" -c "create database $DATABASE template template0"
    "$secretaria" migrate >/dev/null
    for domain in "$COMPANY" "$OTHER"; do
        SECRETARIA_HOOK_SECRET=$SECRET "$secretaria" company add --domain "$domain" >/dev/null
    done
    sql "$ADMIN/$DATABASE" -f "$ROOT/dev/contract/companies.sql"
}

serve() {
    local role=$1 port=$2
    need_port "$port" "secretaria $role"
    SECRETARIA__HTTP__LISTEN=127.0.0.1:$port start_in_background "contract-$role" "$HERE/$role.pid" "$secretaria" "$role"
    wait_until 30 ready_or_gone "$port" "$(<"$HERE/$role.pid")"
    ready "$port" || show_failure "contract-$role"
}

ready() { curl -fsS -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:$1/readyz" 2>/dev/null; }
ready_or_gone() { ready "$1" || is_gone "$2"; }

stop() {
    local role pid
    for role in api ingest; do
        pid=$(running "$HERE/$role.pid" "$secretaria $role") || continue
        # A bare `return` inside a trap says how the script ended, not how the stopping did.
        stop_process "contract-$role" "$pid" TERM >/dev/null || true
    done
}

# ask PORT CHECKS ARGUMENT…: most take ten seconds. `positive_data_acceptance` is left out, because a document cannot say
# that `from` is not after `to`, or that a cursor must be one of ours.
ask() {
    local port=$1 checks=$2
    shift 2
    # It keeps what it found beside the folder it is started in.
    (cd "$HERE" && timeout 90 "$TOOLS/venv/bin/schemathesis" --config-file "$ROOT/dev/contract/schemathesis.toml" \
        run "$HERE/openapi.json" --url "http://127.0.0.1:$port" --no-color --warnings off \
        --checks "$checks" --exclude-checks positive_data_acceptance --phases examples,coverage,fuzzing \
        --generation-deterministic --max-examples "$EXAMPLES" --request-timeout 10 --workers 1 "$@")
}

trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
settings
prepare
serve api "$API_PORT"
serve ingest "$INGEST_PORT"
curl -fsS --noproxy '*' --max-time 10 -o "$HERE/openapi.json" "http://127.0.0.1:$API_PORT/api/openapi.json"
[[ $(<"$HERE/openapi.json") == "$(<"$ROOT/api/openapi.json")" ]] || die "what is served is not api/openapi.json"
bearer() { printf 'Authorization: Bearer %s' "$("$secretaria" token "$@")"; }
ask "$API_PORT" all --exclude-path /webhook/whaticket --header "$(bearer --company "$COMPANY" --scope operator)"
# With this one the company of most requests is another one's.
ask "$API_PORT" all --include-tag company --header "$(bearer --company "$OTHER")"
ask "$INGEST_PORT" all --include-path /webhook/whaticket
# Signed by us, whatever was made up for the headers: so checks of what must be refused do not apply.
SCHEMATHESIS_HOOKS=$ROOT/dev/contract/signed.py CONTRACT_COMPANY=$COMPANY CONTRACT_HOOK_SECRET=$SECRET \
    ask "$INGEST_PORT" "$SHAPE" --include-path /webhook/whaticket
