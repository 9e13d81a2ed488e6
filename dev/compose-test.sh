#!/usr/bin/env bash
# Builds every image of the Dockerfile, brings docker-compose.yml up with Podman, sends webhooks through it and takes it down.
# It needs root, and leaves nothing; with KEEP=1 it keeps images and build caches, and the next run is quick. With BROKERS=3
# there are three brokers.
#
#   dev/compose-test.sh                   all of it
#   dev/compose-test.sh build SERVICE…    these images alone; they stay
#   dev/compose-test.sh clean             remove whatever a run left
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
# Beside the stack of this clone and the servers of its tests.
export SECRETARIA_PORT_SHIFT=$((${SECRETARIA_PORT_SHIFT:-0} + 3000))
for part in ../versions ports processes postgres kafka install rust checks phases compose; do
    # shellcheck source=/dev/null
    source "$ROOT/dev/lib/$part.sh"
done
cd "$ROOT"

readonly COMPANY=clinica.test NUMBER=5511999990001
case ${BROKERS:-1} in
    1) BROKERS_UP=(kafka) ;;
    3) BROKERS_UP=(kafka kafka-2 kafka-3) ;;
    *) die "BROKERS is 1 or 3, not '$BROKERS'" ;;
esac
readonly BROKERS_UP
readonly BUILT=(kafka postgres sandbox secretaria) # One service for each image.

prepare() {
    [[ $(id -u) == 0 ]] || die "make compose-test needs root: it makes an image's root folder and starts containers. Try: sudo make compose-test"
    ensure_state
    mkdir -p "$COMPOSE"
    exec 7>"$COMPOSE.lock"
    flock -n 7 || die "another 'make compose-test' is running in this clone"
    install_missing install_compose_needs
    install_podman_compose
    podman_settings
    say "podman     $(podman version -f '{{.Client.Version}}'), storage $(podman info -f '{{.Store.GraphDriverName}}'), in ${COMPOSE#"$ROOT"/}"
}

# What a person would write into .env. The passwords are this run's.
write_settings() {
    local name
    rm -rf "$COMPOSE/keys"
    install -d -m 700 -o 10001 "$COMPOSE/keys"
    {
        for name in POSTGRES SERVICE API OPERATOR; do echo "${name}_PASSWORD=$(openssl rand -hex 12)"; done
        echo "KEYS_DIR=$COMPOSE/keys"
        echo "MODEL_API_KEY=sandbox"
        echo "HTTP_PORT=$HTTP_PORT"
        echo "SANDBOX_PORT=$SANDBOX_PORT"
        [[ ${#BROKERS_UP[@]} == 1 ]] || grep -v COMPOSE_PROFILES dev/compose/three-brokers.env
    } >"$COMPOSE/env"
}

build_images() {
    local service image
    for service in "$@"; do
        compose build "$service" </dev/null >"$LOGS/build-$service.log" 2>&1 || show_failure "build-$service"
        image=secretaria-${service#secretaria}
        say "image      ${image%-}, $(podman image inspect -f '{{.Size}}' "${image%-}" | numfmt --to=iec)"
    done
}

servers_up() {
    local broker
    need_port "$HTTP_PORT" secretaria
    need_port "$SANDBOX_PORT" "the sandbox"
    : >"$LOGS/compose-up.log"
    up postgres "${BROKERS_UP[@]}" sandbox
    wait_until 120 healthy postgres || fail_with_log postgres
    for broker in "${BROKERS_UP[@]}"; do wait_until 120 healthy "$broker" || fail_with_log "$broker"; done
}

# The order is that of `depends_on`, kept here: Podman before 4.6 waits for no health check, and starts nothing that depends
# on what itself depends on something.
up() { compose up -d --no-build --no-deps "$@" </dev/null >>"$LOGS/compose-up.log" 2>&1 || show_failure compose-up; }

app_up() {
    local service
    for service in migrate extension rebind; do
        up "$service"
        [[ $(timeout 120 podman wait "$(container "$service")") == 0 ]] || fail_with_log "$service"
    done
    up secretaria
    wait_until 90 healthy secretaria || fail_with_log secretaria
}

register() {
    SECRET=$(podman exec -e SECRETARIA_WHATICKET_TOKEN=token "$(container secretaria)" \
        secretaria company add --domain "$COMPANY" --name "Clínica" --whaticket http://sandbox:8090 | awk '/^webhook secret/ { print $3 }')
    [[ -n $SECRET ]] || die "company add printed no secret"
}

# webhook SECRET: signs one by that, sends it as a bridge would, through the published port, and prints the answer's status.
webhook() {
    local body timestamp signature
    body="{\"id\": \"3EB0COMPOSE01\", \"message\": {\"conversation\": \"Oi! Quanto custa uma limpeza?\"}, \"number\": \"$NUMBER\"}"
    timestamp=$(date +%s)
    signature=$(printf '%s.%s' "$timestamp" "$body" | openssl dgst -sha256 -hmac "$1" -r | cut -d ' ' -f 1)
    curl -sS -o /dev/null -w '%{http_code}' --noproxy '*' --max-time 15 "http://127.0.0.1:$HTTP_PORT/webhook/whaticket" \
        -H 'Content-Type: application/json' -H "X-Company-Domain: $COMPANY" -H "X-Timestamp: $timestamp" \
        -H "X-Signature: $signature" --data-binary "$body"
}
answered_with() { [[ $(webhook "$2") == "$1" ]]; }

webhooks() {
    # Ingest hears of a new company through Postgres, a moment later.
    wait_until 10 answered_with 202 "$SECRET" || die "a signed webhook was answered with $(webhook "$SECRET") and not 202"
    answered_with 401 not-the-secret || die "a forged webhook was answered with $(webhook not-the-secret) and not 401"
}

sends() { curl -sS --noproxy '*' --max-time 5 "http://127.0.0.1:$SANDBOX_PORT/_sandbox/log/count?target=send&number=$NUMBER&performed=true"; }
sent_once() { [[ $(sends) =~ \"count\":1[,}] ]]; }
settled() { inside secretaria secretaria conservation >"$LOGS/conservation.log" 2>&1; }

reply() {
    wait_until 60 sent_once || die "no reply reached the bridge: $(sends)"
    wait_until 30 settled || show_failure conservation
    inside secretaria secretaria follow --company "$COMPANY" --once || return
    cat "$LOGS/conservation.log"
}

# An unqualified call finds the library's function and not the one in PL/pgSQL, and it answers.
extension() {
    local found
    found=$(inside postgres psql --no-psqlrc -At -v ON_ERROR_STOP=1 -d secretaria -c "
        select format('%s %s', e.extversion, l.lanname)
        from pg_extension e, pg_proc p join pg_language l on l.oid = p.prolang
        where e.extname = 'secretaria' and p.oid = to_regproc('check_feature_access')") || return
    say "extension  $found"
    [[ $found == *' c' ]] || return
    inside secretaria secretaria quota --company "$COMPANY"
}

fail_with_log() {
    say "--- the end of the log of $1" >&2
    podman logs --tail 25 "$(container "$1")" >&2 2>&1 || true
    die "--- $1 failed"
}

remove_containers() {
    [[ -f $COMPOSE/env ]] || return 0
    compose down -v -t 20 </dev/null >"$LOGS/compose-down.log" 2>&1 || true
    podman rm -af -t 5 >/dev/null 2>&1 || true
    podman volume prune -f >/dev/null 2>&1 || true
    podman network prune -f >/dev/null 2>&1 || true
    rm -rf "$COMPOSE/keys" "$COMPOSE/env"
}

remove_store() {
    podman rmi -af >/dev/null 2>&1 || true
    umount -R "$COMPOSE/store/overlay" 2>/dev/null || true
    rm -rf "$COMPOSE"
    say "removed    images, build caches and ${COMPOSE#"$ROOT"/}"
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # Nothing may cut the cleaning short.
    remove_containers
    if [[ -n ${KEEP:-} ]]; then say "kept       images and build caches, in ${COMPOSE#"$ROOT"/}; remove them: dev/compose-test.sh clean"; else remove_store; fi
    if [[ $code == 0 ]]; then phases; else say "make compose-test FAILED"; fi
    exit "$code"
}

case ${1:-all} in
    all)
        prepare
        trap finish EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        remove_containers # Of a run that was killed.
        write_settings
        phase base base_image
        phase container container_runs
        phase images build_images "${BUILT[@]}"
        phase servers servers_up
        phase app app_up
        phase company register
        phase webhooks webhooks
        phase reply reply
        phase extension extension
        ;;
    build)
        prepare
        write_settings
        phase base base_image
        phase images build_images "${@:2}"
        ;;
    clean)
        prepare
        remove_containers
        remove_store
        ;;
    *) sed -n '2,/^set/ { s/^# \{0,1\}//; /^set/d; p }' "$0" >&2 && exit 2 ;;
esac
