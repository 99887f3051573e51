#!/bin/sh
# Fuzzes what reads bytes that others have written, for SECONDS each (default 8), under the address and undefined sanitizers; and sees to it that the
# fuzzer finds the defect of every broken variant. What it finds is left in build/fuzz.
set -eu
cd "$(dirname "$0")"
../../scripts/need.sh clang=clang "$(ls -d /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a 2>/dev/null | head -1)"=libclang-rt-14-dev
seconds=${1:-8}
out=../../build/fuzz
mkdir -p "$out"
out=$(cd "$out" && pwd)
passed=0

build() { # TARGET OUTPUT [-DVARIANT]
    more=
    [ "$1" != description ] || more="-D_GNU_SOURCE $(ls ../sim/engine/*.c)"
    # shellcheck disable=SC2086
    clang -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-sanitize=alignment -I../../proto -I../region -I.. \
        ${3:+"$3"} -o "$2" "$1.c" $([ "$1" = description ] || ls ../region/*.c) $more -lpthread
}

run() { # PROGRAM SECONDS SEEDS; its status is 0 when nothing was found
    found=$out/found-$(basename "$1")
    mkdir -p "$found" "$out/corpus-$(basename "$1")"
    "$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=1024 -max_len=4096 -seed=1 -artifact_prefix="$found/" "$out/corpus-$(basename "$1")" ${3:+"$3"} \
        >"$1.log" 2>&1
}

for source in *.c; do
    target=${source%.c}
    seeds=
    [ ! -d "$target" ] || seeds=$target
    build "$target" "$out/$target"
    run "$out/$target" "$seconds" "$seeds" || { tail -40 "$out/$target.log"; echo "not ok - $target" >&2; exit 1; }
    echo "ok - $target: $(sed -n 's/^Done \([0-9]*\) runs.*/\1 inputs/p' "$out/$target.log")"
    passed=$((passed + 1))
    for variant in $(grep -o '^#ifdef BROKEN_[A-Z_]*' "$source" | cut -d' ' -f2 | sort -u); do
        build "$target" "$out/$target-broken" "-D$variant"
        if run "$out/$target-broken" 300 "$seeds"; then # it ends when it is found, which is up to chance
            echo "not ok - $target: the fuzzer does not find $variant" >&2
            exit 1
        fi
        rm -rf "$out/found-$target-broken"
        echo "ok - $target: $variant is found"
        passed=$((passed + 1))
    done
done
echo "$passed passed, 0 failed"
