# syntax=docker/dockerfile:1
# Three images: `secretaria` (the default, production) holds that binary and nothing else of ours; `postgres` is
# PostgreSQL with the extension of pg_extension/; `sandbox` plays the providers, for development only, and must never be
# deployed. The machine this was written on has no Docker engine: the steps of `postgres` are those of
# dev/install-extension.sh, which is run every day, but nobody has built the image yet.

FROM rust:1.95-bookworm AS builder
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked -p secretaria -p sandbox --bin secretaria --bin secretaria-sandbox \
    && install -D target/release/secretaria target/release/secretaria-sandbox -t /out

# The same Debian and the same server as the image it goes into: the library leaves the server's symbols open.
FROM postgres:15-bookworm AS extension
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates clang libclang-dev postgresql-server-dev-15 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust:1.95-bookworm /usr/local/cargo /usr/local/cargo
COPY --from=rust:1.95-bookworm /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,id=extension \
    PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config dev/install-extension.sh

FROM postgres:15-bookworm AS postgres
COPY --from=extension /usr/lib/postgresql/15/lib/secretaria.so /usr/lib/postgresql/15/lib/
COPY --from=extension /usr/share/postgresql/15/extension/secretaria* /usr/share/postgresql/15/extension/
# Its second name: see pg_extension/sql/secretaria--0.3.0.sql. Made here, because a copy would be a second file.
RUN ln -s secretaria.so /usr/lib/postgresql/15/lib/secretaria_bindings.so

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/secretaria --create-home secretaria
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
