# Keyturn's image: one static program and the certificates of the public authorities, no shell, nobody's root.
#   docker build -t keyturn --build-arg VERSION="$(git describe --tags --always)" --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --read-only --cap-drop ALL -p 8080:8080 -v keyturn:/data keyturn
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
# An image that is older than the Go of go.mod downloads that one.
ENV GOTOOLCHAIN=auto
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
ARG REVISION
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH deploy/build.sh /out/keyturn "$VERSION" "$REVISION"
RUN deploy/licences.sh /out/THIRD_PARTY_LICENSES
RUN mkdir /out/data /out/keys

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/keyturn /keyturn
COPY --from=build /src/LICENSE /out/THIRD_PARTY_LICENSES /
# The SQLite file, the keyset and the spool are in /data, which must outlive the container. /keys is for a keyset that
# replicas share. A volume takes over whose they are.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/keys /keys
ENV KEYTURN_ADDR=:8080 KEYTURN_DATA_DIR=/data
# SQLite's own temporary files, if it needs any, go to the working directory: the root may be read-only, and has no /tmp.
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 8080
# While the database is away no replica is better than another, and each may hold tokens that are not stored: nothing is to end them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s CMD ["/keyturn", "ready", "--exclude=database,migrations"]
ENTRYPOINT ["/keyturn"]
