#!/bin/sh
# Fetches the pinned client-side packages from npm, checks them against the integrity pinned here, and puts what the
# pages use, unchanged, into vendor/ with licences and checksums. With --check it only compares vendor/ with its
# checksums, without a network.
set -eu
cd "$(dirname "$0")"
if [ "${1:-}" = --check ]; then
    cd vendor
    sha256sum --check --quiet SHA256SUMS
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # package, version, integrity, then files of the package
    package=$1 version=$2 integrity=$3
    shift 3
    archive=$work/$(cd "$work" && npm pack --silent "$package@$version" | tail -n 1)
    actual=sha512-$(openssl dgst -sha512 -binary "$archive" | openssl base64 -A)
    if [ "$actual" != "$integrity" ]; then
        echo "$package@$version: integrity is $actual, pinned is $integrity" >&2
        exit 1
    fi
    rm -rf "$work/package"
    tar -xzf "$archive" -C "$work"
    target=vendor/$(basename "$package")
    rm -rf "$target"
    mkdir -p "$target"
    for file in "$@"; do cp "$work/package/$file" "$target/"; done
    chmod 644 "$target"/*
    printf '%s %s %s\n' "$package" "$version" "$integrity" >"$target/PACKAGE"
}

fetch htmx.org 4.0.1 sha512-oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg== \
    dist/htmx.min.js dist/ext/hx-sse.min.js LICENSE
fetch @picocss/pico 2.1.1 sha512-kIDugA7Ps4U+2BHxiNHmvgPIQDWPDU4IeU6TNRdvXQM1uZX+FibqDQT2xUOnnO2yq/LUHcwnGlu1hvf4KfXnMg== \
    css/pico.classless.min.css LICENSE.md
(cd vendor && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
