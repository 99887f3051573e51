/* SPDX-License-Identifier: Apache-2.0
 *
 * A test program that makes a slice, starts itself again inside it with the shim preloaded, and takes the slice away.
 */
#ifndef MICA_SHIM_TESTS_IN_SLICE_H
#define MICA_SHIM_TESTS_IN_SLICE_H

#include "again.h"
#include "bench_slice.h"

#include <sys/wait.h>

/* The program's exit status: `inside`'s in the slice, and outside whether that was 0 and nothing is left. */
static inline int run_in_slice(char **arguments, uint64_t vram_limit_bytes, int (*inside)(void))
{
    int status = 1;
    if (getenv("MICA_SLICE") != NULL) {
        return inside();
    }
    if (bench_slice_make(vram_limit_bytes) != 0) {
        return 1;
    }
    bench_slice_enter();
    if (fork() == 0) {
        start_again(arguments, SHIM_PATH, FAKE_PATH);
        _exit(1);
    }
    wait(&status);
    return bench_slice_remove() | (status != 0);
}

#endif
