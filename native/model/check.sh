#!/bin/sh
# Checks every model exhaustively with SPIN, and that every broken variant of it is rejected.
set -eu
cd "$(dirname "$0")"
../../scripts/need.sh spin=spin gcc=gcc
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0

# explore NAME [-DVARIANT]: ends with 0 when the whole state space holds.
explore() {
    here=$PWD
    cd "$scratch"
    spin ${2:+"$2"} -a "$here/$1.pml" >/dev/null
    gcc -O2 -w -DSAFETY -DMEMLIM=4096 -o pan pan.c
    ./pan -m1000000 >"$1.out"
    cd "$here"
    grep -q 'errors: 0' "$scratch/$1.out" && ! grep -q 'max search depth too small' "$scratch/$1.out"
}

for model in *.pml; do
    name=${model%.pml}
    explore "$name" || { cat "$scratch/$name.out"; echo "not ok - $name" >&2; exit 1; }
    echo "ok - $name: $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1 states/p' "$scratch/$name.out")"
    passed=$((passed + 1))
    for variant in $(grep -o '^#ifdef BROKEN_[A-Z_]*' "$model" | cut -d' ' -f2 | sort -u); do
        if explore "$name" "-D$variant"; then
            echo "not ok - $name: the checker accepts $variant" >&2
            exit 1
        fi
        echo "ok - $name: $variant is rejected"
        passed=$((passed + 1))
    done
done
echo "$passed passed, 0 failed"
