# One static binary in an image of its own. To use it in yours:
#
#   COPY --from=nought /nought /nought
#   ENTRYPOINT ["/nought", "init", "--container"]
#
# Service files go to /etc/nought. `docker stop` kills after 10 s unless told otherwise: give
# `--stop-timeout 30`, or NOUGHT_DEADLINE=8s.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# Without a libc of its own in the image; --target keeps the flags away from build scripts.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
 && mkdir -p /image/etc/nought /image/run /image/tmp \
 && cp "target/$target/release/nought" /image/nought

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nought" \
      org.opencontainers.image.description="A cgroup-v2 service supervisor that proves nothing is left running" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /image/ /
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/nought", "health"]
ENTRYPOINT ["/nought", "init", "--container"]
