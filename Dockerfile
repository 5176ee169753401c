# Builds the release binary and runs it as an unprivileged user; see docs/container.md for the configuration it needs.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin oncegate

FROM debian:bookworm-slim
# Certificate authorities for `https://` and `rediss://` without a `ca` of their own.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /var/lib/oncegate --create-home oncegate
COPY --from=build /build/target/release/oncegate /usr/local/bin/oncegate
USER 10001
# The store: without a volume here, a new container forgets what was sent and answered.
VOLUME /var/lib/oncegate
EXPOSE 8080 9090
# SIGTERM begins the drain; give it longer than `lame_duck` + `drain`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["oncegate"]
CMD ["run", "--config", "/etc/oncegate/config.toml"]
