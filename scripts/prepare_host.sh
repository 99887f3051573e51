#!/bin/sh
# Lays out what a node's containers share, once, before its services start: a directory on a tmpfs of the host with
#   run/   MICA_RUNTIME_DIR: the regions and the attach socket
#   lib/   MICA_LIB_DIR: the shim (and the simulated drivers), also for tenants' containers, which carry none of mica
#   sim/   MICA_SIM_DIR, only on a simulated node
# Invariant: what a live process may have mapped is never written in place; libraries are replaced by rename.
set -eu

dir=${MICA_HOST_DIR:?MICA_HOST_DIR is unset: the shared directory, on a tmpfs of the host}
libraries=${MICA_LIBRARIES:-/opt/mica/native}

kind=$(stat -f -c %T "$dir")
if [ "$kind" != tmpfs ]; then
    echo "mica-prepare-host: $dir is on $kind; the regions need a tmpfs of the host (allowed: tmpfs)" >&2
    exit 1
fi

mkdir -p "$dir/run" "$dir/lib"
chmod 0755 "$dir" "$dir/run" "$dir/lib"

for part in shim sim; do
    mkdir -p "$dir/lib/$part"
    for library in "$libraries/$part"/*.so*; do
        target=$dir/lib/$part/${library##*/}
        cmp -s "$library" "$target" && continue
        cp "$library" "$target.new"
        chmod 0755 "$target.new"
        mv "$target.new" "$target"
    done
done

if [ -n "${MICA_SIM_DIR:-}" ]; then
    mica sim init "${MICA_SIM_NODE:?MICA_SIM_NODE is unset: the TOML file of the simulated node}" --dir "$MICA_SIM_DIR"
fi
echo "mica-prepare-host: $dir is ready"
