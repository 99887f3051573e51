/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that the shim could not be loaded into must not have the whole device. In a slice CUDA_VISIBLE_DEVICES is therefore a word that names
 * no device: for a driver without a shim in front of it, there is none. The shim, once it is loaded and is what the program will be given as
 * libcuda.so.1, puts the real list there. It does so before main, because a program may read the variable by itself, once.
 * docs/adr/0013-portability-baseline.md
 */
#define _GNU_SOURCE
#include "../core/restore.h"
#include "driver.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define CLOSED "mica-shim-is-not-loaded"

/* musl finds a loaded library by the name of a file that it searched for, not by SONAME: there, preloaded is not yet found. */
static bool is_what_programs_get(void)
{
    void *found = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (found == NULL) {
        return false;
    }
    bool ours = dlsym(found, "cuInit") == (void *)(uintptr_t)&cuInit;
    dlclose(found);
    return ours;
}

__attribute__((constructor)) static void open_gate(void)
{
    if (!mica_environment_restore()) {
        setenv("CUDA_VISIBLE_DEVICES", CLOSED, 1);
        return;
    }
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    const char *devices = getenv("MICA_VISIBLE_DEVICES");
    if (visible != NULL && devices != NULL && strcmp(visible, CLOSED) == 0 && is_what_programs_get()) {
        setenv("CUDA_VISIBLE_DEVICES", devices, 1);
    }
}
