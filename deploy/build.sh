#!/bin/sh
# Builds the program as it is shipped: static, without paths of the machine in it, and the same bytes from the same sources,
# version, revision and Go, wherever it is built. GOOS and GOARCH say for which system.
#   deploy/build.sh OUT [VERSION [REVISION]]
set -eu
out=$1 version=${2:-} revision=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$root"
CGO_ENABLED=0 GOFLAGS='' go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$version -X main.revision=$revision" -o "$out" ./cmd/keyturn
