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
# The marks of providers, and for the browser tests axe-core; that one is not part of the program.
fetch simple-icons 16.37.0 sha512-8mCJIhpMYOL9g13GW59EiL3sVXJnTEKGCTZFaekl9UQ3Qo0SwVjnLaJ82QiaH8BKBdouEDzrHMXIWh8cBIy48A== \
    icons/auth0.svg icons/bitbucket.svg icons/digitalocean.svg icons/discord.svg icons/dropbox.svg icons/facebook.svg \
    icons/github.svg icons/gitlab.svg icons/google.svg icons/okta.svg icons/openid.svg icons/spotify.svg icons/twitch.svg \
    LICENSE.md DISCLAIMER.md
fetch axe-core 4.14.1 sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ== \
    axe.min.js LICENSE LICENSE-3RD-PARTY.txt
(cd vendor && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum >SHA256SUMS)
