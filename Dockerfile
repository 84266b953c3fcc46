# syntax=docker/dockerfile:1
# The binary, the C library it was measured with and a CA bundle, nothing else: no shell, no package manager, not root, read-only
# root file system. Not a static binary: of musl's allocator all threads take one lock, and each request allocates; jemalloc, which
# the program has with glibc (.cargo/config.toml), has no thread of its own with musl.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin telegram-connector \
    && mkdir -p /root-of-image/etc/ssl/certs /out/data /out/sessions \
    && cp target/release/telegram-connector /root-of-image/ \
    && ldd /root-of-image/telegram-connector | grep --only-matching '/[^ ]*' \
        | xargs cp --dereference --parents --target-directory=/root-of-image \
    && echo 'hosts: files dns' > /root-of-image/etc/nsswitch.conf \
    && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/

FROM scratch
COPY --from=build /root-of-image /
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
