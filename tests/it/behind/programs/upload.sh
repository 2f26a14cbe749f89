#!/usr/bin/env bash
# An upload with curl or wget: upload.sh URL FILE PIECE curl|wget [OPTION OF CURL]...
set -euo pipefail
url=$1 file=$2 piece=$3 client=$4
options=("${@:5}")
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

packet() { # TYPE BODY FIELD...
    local type=$1 body=$2 fields=()
    for field in "BITS-Packet-Type: $type" "${@:3}"; do
        fields+=(--header "$field")
    done
    "by_$client" "$body" "${fields[@]}" || { cat "$folder/answer" >&2 && return 1; }
}
by_curl() {
    curl --silent --show-error --fail --dump-header "$folder/answer" --request BITS_POST "${options[@]}" \
        "${@:2}" ${1:+--data-binary "@$1"} "$url"
}
by_wget() {
    wget --tries 1 --method BITS_POST --server-response --output-document - --output-file "$folder/answer" \
        "${@:2}" ${1:+--body-file "$1"} "$url"
}
answered() { sed -n "s/^ *$1: \\([^\\r]*\\)\\r*\$/\\1/Ip" "$folder/answer"; }

packet Create-Session '' 'BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}'
session="BITS-Session-Id: $(answered BITS-Session-Id)"
host=$(answered BITS-Host-Id)
[[ -z $host ]] || url=http://$host:${url##*:}
size=$(stat --format %s "$file")
for ((first = 0; first < size; first += piece)); do
    dd if="$file" of="$folder/piece" bs="$piece" skip=$((first / piece)) count=1 status=none
    last=$((first + $(stat --format %s "$folder/piece") - 1))
    packet Fragment "$folder/piece" "$session" "Content-Range: bytes $first-$last/$size"
done
packet Close-Session '' "$session"
