#!/bin/sh
# The tests and examples of the very PyOpenCL that constraints.txt pins, from its source distribution: programs that none of us wrote, for
# tests/integration/opencl. fetch_pyopencl.sh PYTHON FOLDER
set -eu
python=$1
folder=$2
digest=6cb9544a004609061e86873fe36500da6c2101042e9c7b9c3b804a29a12b98bf
version=$(sed -n 's/^pyopencl==//p' constraints.txt)
archive=$folder/pyopencl-$version.tar.gz
[ -e "$folder/pyopencl/test/test_wrapper.py" ] && [ -e "$archive" ] && exit 0
mkdir -p "$folder/pyopencl"
[ -e "$archive" ] || "$python" -m pip download -q --disable-pip-version-check --no-deps --no-binary pyopencl -d "$folder" "pyopencl==$version"
echo "$digest  $archive" | sha256sum -c --quiet || {
    echo "mica: $archive is not the source distribution that was pinned: expected SHA-256 $digest" >&2
    exit 1
}
tar -xzf "$archive" -C "$folder/pyopencl" --strip-components=1 "pyopencl-$version/test" "pyopencl-$version/examples"
