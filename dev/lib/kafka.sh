# shellcheck shell=bash
# The real broker, from its published artifacts, in KRaft mode: one JVM, no ZooKeeper, no container.

# A JVM for a laptop: quick to start, small. Another kind of load sets its flags in SECRETARIA_KAFKA_JVM.
KAFKA_JVM=(-Xms96m -Xmx320m -Xss512k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:MaxMetaspaceSize=160m
    -XX:ReservedCodeCacheSize=64m -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true -Djava.net.preferIPv4Stack=true)
[[ -z ${SECRETARIA_KAFKA_JVM:-} ]] || read -ra KAFKA_JVM <<<"$SECRETARIA_KAFKA_JVM"
KAFKA_CLUSTER_ID=c2VjcmV0YXJpYS1sb2NhbA # 16 bytes in base64: "secretaria-local".

kafka_cache() { echo "${XDG_CACHE_HOME:-${HOME:?}/.cache}/secretaria"; }
kafka_jars() { echo "$(kafka_cache)/kafka-$KAFKA_VERSION"; }
kafka_marker() { echo "-Dsecretaria.stack=$STATE"; }
kafka_pid() { running "$STATE/kafka.pid" "$(kafka_marker)" || pid_by_argument "$(kafka_marker)"; }

kafka_jars_complete() {
    # A jar's table of contents is not compressed, so grep can read it.
    grep -qs kafka/tools/StorageTool.class "$1/kafka_$KAFKA_SCALA-$KAFKA_VERSION.jar" && compgen -G "$1/log4j-slf4j-impl-*.jar" >/dev/null
}

# Fetched beside the cache and moved in complete; a second run waits for the first one's lock.
kafka_fetch() {
    local jars temporary attempt
    jars=$(kafka_jars)
    kafka_jars_complete "$jars" && return
    mkdir -p "$(kafka_cache)"
    (
        flock -w 900 8 || die "another run has been fetching Kafka for fifteen minutes: $jars.lock"
        kafka_jars_complete "$jars" && exit 0
        command -v mvn >/dev/null || die "Kafka's jars are not here and Maven is missing: run 'dev/stack install'"
        say "kafka      fetching Apache Kafka $KAFKA_VERSION (55 MB, once)"
        rm -rf "$jars" "$jars".part.*
        temporary=$(mktemp -d "$jars.part.XXXXXX")
        for attempt in 1 2 3; do
            mvn -q -B -f "$ROOT/dev/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
                -DoutputDirectory="$temporary" -Dkafka.version="$KAFKA_VERSION" -Dscala.binary="$KAFKA_SCALA" \
                -Dlog4j.version="$LOG4J_VERSION" </dev/null >"$LOGS/maven.log" 2>&1 && break
            say "kafka      attempt $attempt to fetch it failed"
        done
        kafka_jars_complete "$temporary" || show_failure maven
        chmod 0755 "$temporary"
        mv "$temporary" "$jars"
    ) 8>"$jars.lock"
}

# Any Java from ours on.
java_bin() {
    local java version
    for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java)" /usr/lib/jvm/java-"$JAVA_MAJOR"*/bin/java /usr/lib/jvm/*/bin/java; do
        [[ -x $java ]] || continue
        version=$("$java" -version 2>&1 | grep -oE 'version "[0-9]+' | grep -oE '[0-9]+') || continue
        ((version >= JAVA_MAJOR)) && { echo "$java"; return; }
    done
    return 1
}

kafka_properties() {
    sed -e "s/@BROKER@/$KAFKA_PORT/g" -e "s/@CONTROLLER@/$KAFKA_CONTROLLER_PORT/g" -e "s/@DATA@/$1/g" "$ROOT/dev/kafka/server.properties.in"
}

# Formatted beside its place and moved there complete, like the cluster of Postgres.
kafka_create() {
    [[ -d data ]] && return
    rm -rf data.new
    kafka_properties data.new >format.properties
    "$(java_bin)" "${KAFKA_JVM[@]}" -Dlog4j2.configurationFile=log4j2.properties -cp "$(kafka_jars)/*" kafka.tools.StorageTool \
        format --standalone -t "$KAFKA_CLUSTER_ID" -c format.properties </dev/null >"$LOGS/kafka-format.log" 2>&1 || show_failure kafka-format
    rm format.properties
    mv data.new data
}

kafka_need_ports() {
    [[ -z $(kafka_pid) ]] || return 0
    need_port "$KAFKA_PORT" Kafka
    need_port "$KAFKA_CONTROLLER_PORT" "Kafka's controller"
}

kafka_start() {
    if [[ -d $STATE/kafka/data ]] && kafka_pid >"$STATE/kafka.pid"; then return; fi
    kafka_stop # A broker whose data was deleted while it ran is of no use.
    kafka_fetch
    mkdir -p "$STATE/kafka"
    cd "$STATE/kafka" || die "cannot enter $STATE/kafka"
    cp "$ROOT/dev/kafka/log4j2.properties" .
    kafka_create
    kafka_properties data >server.properties
    start_in_background kafka "$STATE/kafka.pid" "$(java_bin)" "${KAFKA_JVM[@]}" "$(kafka_marker)" \
        -Dlog4j2.configurationFile=log4j2.properties -cp "$(kafka_jars)/*" kafka.Kafka server.properties
}

kafka_await() {
    wait_until 90 kafka_answers_or_died "$(<"$STATE/kafka.pid")"
    kafka_answers || show_failure kafka
}

kafka_answers() { grep -qs 'Kafka Server started' "$LOGS/kafka.log" && (exec 3<>"/dev/tcp/127.0.0.1/$KAFKA_PORT") 2>/dev/null; }
kafka_answers_or_died() { kafka_answers || is_gone "$1"; }

kafka_stop() {
    local pid
    pid=$(kafka_pid) && stop_process kafka "$pid" TERM
    rm -f "$STATE/kafka.pid"
}
