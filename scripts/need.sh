#!/bin/sh
# Installs Debian packages for what a proof needs: need.sh FILE_OR_PROGRAM=PACKAGE... As root with apt it installs those that are
# missing; else it says in one line what to install, and fails.
set -eu
missing=
for pair in "$@"; do
    thing=${pair%%=*}
    [ -e "$thing" ] || command -v "$thing" >/dev/null 2>&1 || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "mica: this needs$missing (Debian's names); run as root on Debian it installs them itself" >&2
    exit 1
fi
echo "mica: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
