#!/bin/sh
# Says in one line what this machine lacks to build mica. $1 is the Python to use.
fail() {
    echo "mica: $1" >&2
    exit 1
}
python=${1:-python3}
command -v "$python" >/dev/null 2>&1 || fail "$python is not installed; allowed: Python 3.11 or newer (make PYTHON=…)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -V 2>&1); allowed: Python 3.11 or newer (make PYTHON=…)"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python can't make virtual environments; install python3-venv"
compiler=${CC:-gcc}
command -v "$compiler" >/dev/null 2>&1 || fail "$compiler is not installed; building the native libraries needs gcc and make"
printf '#include <stdint.h>\nint main(void) { return 0; }\n' | "$compiler" -x c -o /dev/null - 2>/dev/null ||
    fail "$compiler can't compile a C program; install the C library's headers (libc6-dev)"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")')
[ -f "$header" ] || fail "$header is missing; install python3-dev"
