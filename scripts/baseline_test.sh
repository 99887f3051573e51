#!/bin/sh
# Runs the shim's tests, the very binaries that are delivered, under the C libraries of the baseline: in the root file system of Debian 11 (glibc
# 2.31, the oldest that the package mirrors still have) and under musl's loader. Nothing is skipped: what cannot run fails.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh debootstrap=debootstrap unshare=util-linux /lib/ld-musl-x86_64.so.1=musl
if [ "$(id -u)" -ne 0 ]; then
    echo "mica: the old root file system is entered with chroot, which only root can; run this as root" >&2
    exit 1
fi
make -s -C native all baseline-tests
programs=$PWD/build/native/baseline/tests
tests=$(ls "$programs")

root=build/roots/bullseye
if [ ! -d "$root" ]; then
    rm -rf "$root.part"
    mkdir -p build/roots
    echo "mica: unpacking Debian 11 into $root (once)"
    debootstrap --variant=minbase --foreign bullseye "$root.part" >build/roots/bullseye.log 2>&1 || {
        tail -5 build/roots/bullseye.log >&2
        exit 1
    }
    [ ! -h "$root.part/proc" ] || { rm "$root.part/proc" && mkdir "$root.part/proc"; } # what debootstrap does inside a container
    mv "$root.part" "$root"
fi

echo "# Debian 11, $(basename "$root"/lib/x86_64-linux-gnu/libc-2.*.so)"
# The mounts are in a namespace of their own and end with it.
unshare --mount sh -euc '
    root=$1 here=$2
    mkdir -p "$root$here"
    mount --bind "$here" "$root$here"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    shift 2
    for program in "$@"; do
        chroot "$root" "$program"
    done
' sh "$PWD/$root" "$PWD" $(for test in $tests; do echo "$programs/$test"; done)

loader=/lib/ld-musl-x86_64.so.1
echo "# musl, $("$loader" 2>&1 | sed -n 2p)"
for test in $tests; do
    MICA_LOADER=$loader "$loader" "$programs/$test"
done
