#!/usr/bin/env bash
# Apache Kafka in a container: `serve` formats an empty volume and runs the broker, `healthy` asks it whether it answers.
# A variable KAFKA_A_B is the broker's setting a.b, as in Apache's own image.
set -euo pipefail
readonly FOLDER=/opt/kafka

settings() {
    local variable key
    for variable in "${!KAFKA_@}"; do
        key=${variable#KAFKA_} key=${key,,}
        printf '%s=%s\n' "${key//_/.}" "${!variable}"
    done
}

java_with() {
    local flags
    read -ra flags <<<"${JVM_FLAGS:--Xms128m -Xmx512m -XX:+ExitOnOutOfMemoryError}"
    exec java "${flags[@]}" -Djava.awt.headless=true -Dlog4j2.configurationFile="$FOLDER/log4j2.properties" -cp "$FOLDER/libs/*" "$@"
}

serve() {
    local file=/var/lib/kafka/server.properties
    settings >"$file"
    # Does nothing on a volume that has been formatted.
    (java_with kafka.tools.StorageTool format --ignore-formatted -t "${CLUSTER_ID:?}" -c "$file")
    java_with kafka.Kafka "$file"
}

# The ApiVersions request of the protocol, version 0, with the correlation id 1, which the answer must repeat. A Java tool
# that asks the same would cost a second of a core each time.
healthy() {
    exec 3<>/dev/tcp/127.0.0.1/9092
    printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
    [[ $(head -c 8 <&3 | tail -c 4 | od -An -tx1 | tr -d ' ') == 00000001 ]]
}

case ${1:-} in
    serve | healthy) "$1" ;;
    *) exec "$@" ;;
esac
