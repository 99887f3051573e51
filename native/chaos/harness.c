/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "harness.h"

#include "../sim/cuda/abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static CUresult (*look)(size_t *, size_t *);
static CUresult (*take)(CUdeviceptr *, size_t);
static CUresult (*give)(CUdeviceptr);

void chaos_nap_us(uint64_t us)
{
    struct timespec some = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    nanosleep(&some, NULL);
}

pid_t chaos_start(const char *role, const char *argument)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("LD_PRELOAD", SHIM_PATH, 1);
        setenv("MICA_CUDA_DRIVER", SIM_PATH, 1);
        execl(VICTIM_PATH, VICTIM_PATH, role, argument, (char *)NULL);
        _exit(127);
    }
    if (child < 0) {
        abort(); /* and never a signal to -1 */
    }
    return child;
}

bool chaos_driver_open(void)
{
    CUcontext context = NULL;
    void *library = dlopen(SIM_PATH, RTLD_NOW);
    if (library == NULL) {
        return false;
    }
    CUresult (*init)(unsigned);
    CUresult (*retain)(CUcontext *, CUdevice);
    CUresult (*set)(CUcontext);
    *(void **)&init = dlsym(library, "cuInit");
    *(void **)&retain = dlsym(library, "cuDevicePrimaryCtxRetain");
    *(void **)&set = dlsym(library, "cuCtxSetCurrent");
    *(void **)&look = dlsym(library, "cuMemGetInfo_v2");
    *(void **)&take = dlsym(library, "cuMemAlloc_v2");
    *(void **)&give = dlsym(library, "cuMemFree_v2");
    return init(0) == CUDA_SUCCESS && retain(&context, 0) == CUDA_SUCCESS && set(context) == CUDA_SUCCESS;
}

uint64_t chaos_device_bytes(void)
{
    size_t unused = 0;
    size_t total = 0;
    look(&unused, &total);
    return total - unused;
}

bool chaos_device_take(uint64_t bytes, uint64_t *address)
{
    return take(address, bytes) == CUDA_SUCCESS;
}

void chaos_device_give(uint64_t address)
{
    give(address);
}

static int passed;
static int failed;

void chaos_check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    printf("%s %d - %s\n", holds ? "ok" : "not ok", passed + failed, what);
}

int chaos_end(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
