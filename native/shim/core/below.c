/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "below.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The jump targets of the stubs in pass.S, one word each, and what each one says at first: resolve me. */
extern _Atomic(void *) mica_pass_targets[];

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(void *) library;
static _Atomic bool is_refused;
static bool is_absent;

static const char *const standard_dirs[] = {
#if defined(__x86_64__)
    "/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu",
#elif defined(__aarch64__)
    "/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu",
#endif
    "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib"};

extern const char own_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden"))); /* where this shim was loaded, by the linker */

/* Is it this very shim, under whatever name, or leads there? The loader loads no file twice. */
static bool is_this_shim(void *handle)
{
    Dl_info info;
    const void *symbol = dlsym(handle, mica_below.names[0]);
    return symbol != NULL && dladdr(symbol, &info) != 0 && info.dli_fbase == own_start;
}

/* NULL, with `*is_own`: the file is this shim. NULL without: dlerror says why. */
static void *open_other(const char *path, bool *is_own)
{
    void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    *is_own = handle != NULL && is_this_shim(handle);
    if (*is_own) {
        dlclose(handle);
        return NULL;
    }
    return handle;
}

static void *open_in(const char *dir, size_t dir_bytes)
{
    char path[PATH_MAX];
    if (dir_bytes == 0 || dir[0] != '/' || dir_bytes + strlen(mica_below.soname) + 2 > sizeof path) {
        return NULL;
    }
    snprintf(path, sizeof path, "%.*s/%s", (int)dir_bytes, dir, mica_below.soname);
    bool is_own = false;
    return access(path, F_OK) == 0 ? open_other(path, &is_own) : NULL;
}

static void *open_in_library_path(void)
{
    const char *dirs = getenv("LD_LIBRARY_PATH");
    void *found = NULL;
    while (dirs != NULL && found == NULL) {
        const char *end = strchr(dirs, ':');
        found = open_in(dirs, end != NULL ? (size_t)(end - dirs) : strlen(dirs));
        dirs = end != NULL ? end + 1 : NULL;
    }
    return found;
}

static void *open_configured(const char *path)
{
    bool is_own = false;
    void *found = path[0] == '/' ? open_other(path, &is_own) : NULL;
    if (path[0] != '/' || is_own) {
        fprintf(stderr, "mica: %s: \"%.300s\" is not the absolute path of another %s\n", mica_below.variable, path, mica_below.soname);
    } else if (found == NULL) {
        fprintf(stderr, "mica: %s: %.300s\n", mica_below.variable, dlerror());
    }
    return found;
}

static void *find_library(void)
{
    const char *path = getenv(mica_below.variable);
    if (path != NULL && path[0] != '\0') {
        return open_configured(path);
    }
    void *found = open_in_library_path();
    for (size_t i = 0; found == NULL && i < sizeof standard_dirs / sizeof standard_dirs[0]; i++) {
        found = open_in(standard_dirs[i], strlen(standard_dirs[i]));
    }
    if (found == NULL) {
        fprintf(stderr, "mica: no %s below the shim: not in LD_LIBRARY_PATH, nor where it is usually installed\n", mica_below.soname);
    }
    return found;
}

void *mica_below_open(void)
{
    void *handle = atomic_load_explicit(&library, memory_order_acquire);
    if (handle != NULL) {
        return handle;
    }
    pthread_mutex_lock(&opening);
    handle = atomic_load_explicit(&library, memory_order_relaxed);
    if (handle == NULL && !is_absent) {
        handle = find_library();
        is_absent = handle == NULL;
        atomic_store_explicit(&library, handle, memory_order_release);
    }
    pthread_mutex_unlock(&opening);
    return handle;
}

void *mica_below_symbol(const char *name)
{
    void *handle = mica_below_open();
    return handle != NULL ? dlsym(handle, name) : NULL;
}

/* Called by the stub of a symbol that is used for the first time, with the address of its target word. Returns where to jump. */
void *mica_pass_resolve(_Atomic(void *) *target)
{
    void *found = (void *)(uintptr_t)mica_below.absent;
    if (atomic_load(&is_refused)) {
        return (void *)(uintptr_t)mica_below.refused;
    }
    if (mica_below.denied != NULL && mica_below.denied[target - mica_pass_targets] && mica_below.denies()) {
        return (void *)(uintptr_t)mica_below.refused; /* asked again each time: it ends with the slice */
    }
    if (mica_below_open() != NULL) {
        found = mica_below_symbol(mica_below.names[target - mica_pass_targets]);
        if (found == NULL) {
            found = (void *)(uintptr_t)mica_below.missing;
        }
    }
    atomic_store_explicit(target, found, memory_order_release);
    if (atomic_load(&is_refused)) {
        atomic_store(target, (void *)(uintptr_t)mica_below.refused);
    }
    return atomic_load_explicit(target, memory_order_relaxed);
}

void mica_below_refuse(void)
{
    if (atomic_exchange(&is_refused, true)) {
        return;
    }
    for (size_t i = 0; i < mica_below.count; i++) {
        atomic_store_explicit(&mica_pass_targets[i], (void *)(uintptr_t)mica_below.refused, memory_order_release);
    }
}

bool mica_below_is_refused(void)
{
    return atomic_load_explicit(&is_refused, memory_order_relaxed);
}
