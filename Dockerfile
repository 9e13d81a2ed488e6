# syntax=docker/dockerfile:1
# Four images from one base, Debian: `secretaria` (the default, production) holds that binary and nothing else of ours;
# `postgres` is Debian's PostgreSQL with the extension of pg_extension/; `kafka` is Apache Kafka from the jars of the
# local stack; `sandbox` plays the providers, for development only, and must never be deployed.
# `make compose-test` builds all four and sends a webhook through them.

# What compiles: the toolchain that rust-toolchain.toml names, and the headers of the very server that loads the extension.
FROM debian:bookworm-slim AS rust
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /build
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates clang curl libclang-dev pkg-config \
        postgresql-server-dev-15 zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
COPY rust-toolchain.toml dev/versions.sh ./
RUN bash -euc '. ./versions.sh; host=$(uname -m)-unknown-linux-gnu; \
        curl -fsS --proto =https -o /tmp/rustup-init "https://static.rust-lang.org/rustup/archive/$RUSTUP_VERSION/$host/rustup-init"; \
        echo "${RUSTUP_INIT_SHA256[$host]} /tmp/rustup-init" | sha256sum --check --quiet' \
    && chmod +x /tmp/rustup-init \
    && /tmp/rustup-init -y --no-modify-path --profile minimal --default-toolchain none \
    && rustup toolchain install \
    && rm /tmp/rustup-init versions.sh

FROM rust AS builder
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked -p secretaria -p sandbox --bin secretaria --bin secretaria-sandbox \
    && install -D target/release/secretaria target/release/secretaria-sandbox -t /out

FROM rust AS extension
COPY . .
# The second name of the library is a link: see pg_extension/sql/secretaria--0.3.0.sql.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,id=extension \
    mkdir -p /out /usr/share/postgresql/15/extension \
    && PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config dev/install-extension.sh \
    && cd / && cp -a --parents usr/lib/postgresql/15/lib/secretaria*.so usr/share/postgresql/15/extension/secretaria* /out

FROM debian:bookworm-slim AS postgres
# Debian would create a cluster of its own: ours belongs on a volume.
RUN useradd --system --user-group --uid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \
    && mkdir -p /etc/postgresql-common/createcluster.d \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends postgresql-15 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o postgres -g postgres -m 700 /var/lib/postgresql
COPY --from=extension /out /
COPY dev/compose/postgres.sh dev/compose/roles.sql /opt/secretaria/
USER postgres
EXPOSE 5432
# The server's fast stop, which does not wait for sessions.
STOPSIGNAL SIGINT
ENTRYPOINT ["/opt/secretaria/postgres.sh"]

# Java's packages put links beside their manuals, into a folder that the slim base does not have.
FROM debian:bookworm-slim AS kafka-jars
RUN apt-get update \
    && mkdir -p /usr/share/man/man1 \
    && apt-get install -y --no-install-recommends ca-certificates maven openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*
COPY dev/versions.sh dev/kafka/pom.xml /jars/
RUN --mount=type=cache,target=/var/cache/maven \
    bash -euc '. /jars/versions.sh; \
        mvn -q -B -Dmaven.repo.local=/var/cache/maven -f /jars/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=/out \
            -Dkafka.version="$KAFKA_VERSION" -Dscala.binary="$KAFKA_SCALA" -Dlog4j.version="$LOG4J_VERSION"'

FROM debian:bookworm-slim AS kafka
RUN apt-get update \
    && mkdir -p /usr/share/man/man1 \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10002 --home-dir /var/lib/kafka --create-home kafka \
    && install -d -o kafka /var/lib/kafka/data
COPY --from=kafka-jars /out /opt/kafka/libs
COPY dev/compose/kafka.sh dev/kafka/log4j2.properties /opt/kafka/
WORKDIR /var/lib/kafka
USER kafka
EXPOSE 9092
ENTRYPOINT ["/opt/kafka/kafka.sh"]
CMD ["serve"]

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/secretaria --create-home secretaria \
    && install -d -o secretaria /var/lib/secretaria/lake
WORKDIR /var/lib/secretaria
USER secretaria

FROM base AS sandbox
COPY --from=builder /out/secretaria-sandbox /usr/local/bin/
EXPOSE 8090
ENTRYPOINT ["secretaria-sandbox"]
CMD ["--listen", "0.0.0.0:8090"]

FROM base AS secretaria
COPY --from=builder /out/secretaria /usr/local/bin/
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["secretaria"]
CMD ["all"]
