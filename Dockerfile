# syntax=docker/dockerfile:1
# compat-proxy alone, one static binary on an empty image: the sidecar of attach mode, and the place to copy
# /compat-proxy from into the image of an app (wrap mode; "Docker" in README.md).
#
#   docker build --build-arg REVISION="$(git rev-parse --short HEAD)" -t compat-proxy:0.1.0 .

FROM rust:1.95-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The C library is linked in, so that the binary runs in any Linux image, however old or empty. Naming the target
# keeps the flag away from build scripts and procedural macros, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"
# The dependencies, with an empty program before them: minutes, and the layer holds until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN install -d src \
 && touch src/lib.rs \
 && echo 'fn main() {}' > src/main.rs \
 && cargo build --release --locked --lib --bins --target "$(rustc --print host-tuple)" \
 && rm -r src
COPY src src
COPY LICENSE ./
ARG REVISION=unknown
# Cargo goes by times, and those of a checkout may be older than the empty program.
RUN target="$(rustc --print host-tuple)" \
 && touch src/lib.rs src/main.rs \
 && COMPAT_PROXY_REVISION="$REVISION" cargo build --release --locked --lib --bins --target "$target" \
 && install -D -m 755 "target/$target/release/compat-proxy" /image/compat-proxy \
 && install -D -m 644 LICENSE /image/LICENSE
# An empty image has neither a directory for sockets nor a place to mount the app.
RUN install -d -m 1777 /image/tmp \
 && install -d -m 755 /image/app

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="compat-proxy" \
      org.opencontainers.image.description="Runs App Engine Standard apps anywhere: a reverse proxy that enforces app.yaml" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
# Probes and Prometheus come from outside the container. Do not publish this port to the world.
ENV COMPAT_PROXY_ADMIN=0.0.0.0:9911
USER 65532:65532
# Where app.yaml and the static files are mounted.
WORKDIR /app
EXPOSE 8080 9911
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/compat-proxy", "healthcheck"]
ENTRYPOINT ["/compat-proxy"]
