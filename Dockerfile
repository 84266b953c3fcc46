# syntax=docker/dockerfile:1
# A static binary and a CA bundle, nothing else: no shell, no package manager, not root, read-only root file system.

FROM rust:1.95-alpine AS build
RUN apk add --no-cache build-base cmake perl ca-certificates
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The musl target of this image links statically.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin telegram-connector \
    && cp target/release/telegram-connector /telegram-connector \
    && mkdir -p /out/data /out/sessions

FROM scratch
COPY --from=build /telegram-connector /telegram-connector
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/sessions /sessions
USER 65532:65532
# Other containers reach it, so it wants CONNECTOR_ADMIN_TOKEN; as a sidecar listen on 127.0.0.1:5000 instead.
ENV CONNECTOR_LISTEN=0.0.0.0:5000 \
    CONNECTOR_DATA_DIR=/data \
    CONNECTOR_SESSION_STORE=file:/sessions \
    CONNECTOR_LOG_FORMAT=json \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
VOLUME ["/data", "/sessions"]
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=4s --start-period=10s CMD ["/telegram-connector", "healthcheck"]
ENTRYPOINT ["/telegram-connector"]
CMD ["serve"]
