#!/bin/sh
# Writes the licences and notices that have to come with the program, for all systems that it is released for: those of Go, of the
# modules with the folders in them that have their own, and of what static/vendor has in it. It fails where a part has none.
#   deploy/licences.sh OUT
set -eu
out=$1
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")/.."

licences() { # folder
    find "$1" -maxdepth 1 -type f ! -name '*.go' \
        \( -iname '*licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | LC_ALL=C sort
}

add() { # whose, folder
    licences "$2" | while read -r file; do
        printf '==== %s: %s\n\n' "$1" "$(basename "$file")"
        cat "$file"
        printf '\n\n'
    done
}

must() { # whose, folder
    [ -n "$(licences "$2")" ] || { echo "$1: no licence in $2" >&2; exit 1; }
    add "$1" "$2"
}

packages=$(for system in linux darwin windows; do
    CGO_ENABLED=0 GOOS=$system go list -deps \
        -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}} {{$.Dir}}{{end}}{{end}}' ./cmd/keyturn || exit 1
done)
{
    must "$(go env GOVERSION)" "$(go env GOROOT)"
    printf '%s\n' "$packages" | grep . | cut -d ' ' -f 1-3 | LC_ALL=C sort -u | while read -r path version dir; do
        must "$path $version" "$dir"
    done
    printf '%s\n' "$packages" | grep . | while read -r path version dir within; do
        while [ "$within" != "$dir" ]; do
            echo "$path $version $within"
            within=${within%/*}
        done
    done | LC_ALL=C sort -u | while read -r path version within; do add "$path $version, ${within##*@"$version"/}" "$within"; done
    for dir in static/vendor/*/; do
        case $dir in */axe-core/) continue ;; esac # it is for tests
        must "$(cut -d ' ' -f 1,2 "$dir/PACKAGE")" "$dir"
    done
} >"$out"
