# shellcheck shell=bash
# What the engine is measured beside: programs that do the same work another way, built for that and for nothing else.

peers_folder() { echo "${CARGO_TARGET_DIR:-$ROOT/target}/peers"; }

install_peer_needs() {
    command -v mvn >/dev/null || echo maven
    command -v javac >/dev/null || first_available "openjdk-$JAVA_MAJOR-jdk-headless" default-jdk-headless
}

# Confluent's parallel consumer, from Maven: built again when its sources are newer, so that no network is needed else.
build_parallel_consumer() {
    local sources=$ROOT/benches/engine/peers/parallel-consumer target attempt
    target=$(peers_folder)/parallel-consumer
    [[ ! -e $target/peer.jar || -n $(find "$sources" -type f -newer "$target/peer.jar" -print -quit) ]] || return 0
    say "peer       building the parallel consumer"
    for attempt in 1 2 3; do
        mvn -q -B -f "$sources/pom.xml" package -Dpeer.target="$target" </dev/null >"$LOGS/maven.log" 2>&1 && return
        say "peer       attempt $attempt to build it failed"
    done
    show_failure maven
}

# graphile_worker, as a workspace of its own.
build_graphile() {
    cargo build --locked --release --manifest-path "$ROOT/benches/engine/peers/graphile/Cargo.toml" \
        --target-dir "$(peers_folder)/graphile" </dev/null
}
