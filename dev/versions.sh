# shellcheck shell=bash disable=SC2034
# What the local stack and the checks are built from. One place; docker-compose.yml names the same majors.

POSTGRES_MAJOR=15          # What production runs; the stack accepts this one or newer.
JAVA_MAJOR=17              # The least Kafka 4 starts on.
KAFKA_VERSION=4.3.1
KAFKA_SCALA=2.13
LOG4J_VERSION=2.25.4       # slf4j 1.7 binding, as upstream ships it.
TYPOS_VERSION=1.52.0
CHECK_JSONSCHEMA_VERSION=0.39.0
SCHEMATHESIS_VERSION=4.32.5
CARGO_DENY_VERSION=0.20.2
RUSTUP_VERSION=1.29.0       # Its installer, for a machine without Rust. The checksums are of what static.rust-lang.org serves.
declare -A RUSTUP_INIT_SHA256=(
    [x86_64-unknown-linux-gnu]=4acc9acc76d5079515b46346a485974457b5a79893cfb01112423c89aeb5aa10
    [aarch64-unknown-linux-gnu]=9732d6c5e2a098d3521fca8145d826ae0aaa067ef2385ead08e6feac88fa5792
)
PODMAN_COMPOSE_VERSION=1.6.0
