# syntax=docker/dockerfile:1
# Two images from one build: `secretaria` (the default, production) holds that binary and nothing else of ours;
# `sandbox` plays the providers, for development only, and must never be deployed.

FROM rust:1.95-bookworm AS builder
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked -p secretaria -p sandbox --bin secretaria --bin secretaria-sandbox \
    && install -D target/release/secretaria target/release/secretaria-sandbox -t /out

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
