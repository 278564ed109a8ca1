#!/bin/sh
# Writes the licences and notices that have to come with the program, for all systems that it is released for: those of Go, of the
# modules, and of what static/vendor has in it. It fails where there is none.
#   deploy/licences.sh OUT
set -eu
out=$1
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")/.."

add() { # whose, folder
    found=$(find "$2" -maxdepth 1 -type f ! -name '*.go' \
        \( -iname '*licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | LC_ALL=C sort)
    [ -n "$found" ] || { echo "$1: no licence in $2" >&2; exit 1; }
    printf '%s\n' "$found" | while read -r file; do
        printf '==== %s: %s\n\n' "$1" "$(basename "$file")"
        cat "$file"
        printf '\n\n'
    done
}

modules=$(for system in linux darwin windows; do
    CGO_ENABLED=0 GOOS=$system go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/keyturn || exit 1
done)
{
    add "$(go env GOVERSION)" "$(go env GOROOT)"
    printf '%s\n' "$modules" | grep . | LC_ALL=C sort -u | while read -r path version dir; do add "$path $version" "$dir"; done
    for dir in static/vendor/*/; do
        case $dir in */axe-core/) continue ;; esac # it is for tests
        add "$(cut -d ' ' -f 1,2 "$dir/PACKAGE")" "$dir"
    done
} >"$out"
