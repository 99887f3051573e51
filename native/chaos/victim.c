/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that takes and gives memory in every way there is, and launches, until it is killed. `victim survivor`: until it is told to be quiet, again and
 * again. `victim filler`: takes all that is left, to the byte. `victim racer`: takes whole granules only, so that the device counts just what was asked for.
 *
 * It knows nothing of mica but what it shares with the harness. Status 3: a call failed that must not.
 */
#define _GNU_SOURCE
#include "node.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "../sim/cuda/abi.h"

#define CALLS(X)                                                                                                          \
    X(cuInit, (unsigned))                                                                                                 \
    X(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                                                  \
    X(cuCtxSetCurrent, (CUcontext))                                                                                       \
    X(cuCtxSynchronize, (void))                                                                                           \
    X(cuModuleLoadData, (CUmodule *, const void *))                                                                       \
    X(cuModuleUnload, (CUmodule))                                                                                         \
    X(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                                                        \
    X(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                                             \
    X(cuMemFree_v2, (CUdeviceptr))                                                                                        \
    X(cuMemAllocAsync, (CUdeviceptr *, size_t, CUstream))                                                                 \
    X(cuMemFreeAsync, (CUdeviceptr, CUstream))                                                                            \
    X(cuMemAllocManaged, (CUdeviceptr *, size_t, unsigned))                                                               \
    X(cuMemHostAlloc, (void **, size_t, unsigned))                                                                        \
    X(cuMemFreeHost, (void *))                                                                                            \
    X(cuArrayCreate_v2, (CUarray *, const CUDA_ARRAY_DESCRIPTOR *))                                                       \
    X(cuArrayDestroy, (CUarray))                                                                                          \
    X(cuMemCreate, (CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long))             \
    X(cuMemRelease, (CUmemGenericAllocationHandle))                                                                       \
    X(cuMemAddressReserve, (CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long))                              \
    X(cuMemAddressFree, (CUdeviceptr, size_t))                                                                            \
    X(cuMemMap, (CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long))                          \
    X(cuMemUnmap, (CUdeviceptr, size_t))                                                                                  \
    X(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **)) \
    X(cuStreamCreate, (CUstream *, unsigned))                                                                             \
    X(cuStreamBeginCapture_v2, (CUstream, int))                                                                           \
    X(cuStreamEndCapture, (CUstream, CUgraph *))                                                                          \
    X(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                                          \
    X(cuGraphLaunch, (CUgraphExec, CUstream))                                                                             \
    X(cuGraphExecDestroy, (CUgraphExec))                                                                                  \
    X(cuGraphDestroy, (CUgraph))                                                                                          \
    X(cuDeviceGraphMemTrim, (CUdevice))

static struct {
#define CALL_MEMBER(name, parameters) CUresult(*name) parameters;
    CALLS(CALL_MEMBER)
} cu;

static const char image[] = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry spin() { ret; }\n";
static CUfunction function;
static CUstream stream;
static uint64_t state;

static uint64_t random_below(uint64_t bound)
{
    return chaos_random_below(&state, bound);
}

/* Out of memory is an answer; anything else but success is not. */
static bool done(CUresult result)
{
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_OUT_OF_MEMORY) {
        fprintf(stderr, "victim: a call answered %d\n", (int)result);
        _exit(3);
    }
    return result == CUDA_SUCCESS;
}

static size_t some_bytes(void)
{
    return 1 + random_below(random_below(4) == 0 ? 12 << 20 : 1 << 20);
}

/* --- Ways to take memory, and give it back --------------------------------------------------------------------------------- */

static void plain(void)
{
    CUdeviceptr taken[4];
    unsigned count = 0;
    while (count < 4 && done(cu.cuMemAlloc_v2(&taken[count], some_bytes()))) {
        count++;
    }
    while (count > 0) {
        done(cu.cuMemFree_v2(taken[--count]));
    }
}

static void in_order(void)
{
    CUdeviceptr taken = 0;
    if (done(cu.cuMemAllocAsync(&taken, some_bytes(), stream))) {
        done(cu.cuMemFreeAsync(taken, stream));
    }
    done(cu.cuCtxSynchronize());
}

static void managed(void)
{
    CUdeviceptr taken = 0;
    if (done(cu.cuMemAllocManaged(&taken, some_bytes(), 1))) {
        done(cu.cuMemFree_v2(taken));
    }
}

static void pinned(void)
{
    void *taken = NULL;
    if (done(cu.cuMemHostAlloc(&taken, some_bytes(), 0))) {
        done(cu.cuMemFreeHost(taken));
    }
}

static void array(void)
{
    CUarray taken = NULL;
    const CUDA_ARRAY_DESCRIPTOR shape = {.width = 1 + random_below(512), .height = 1 + random_below(512), .format = 0x20, .channels = 4};
    if (done(cu.cuArrayCreate_v2(&taken, &shape))) {
        done(cu.cuArrayDestroy(taken));
    }
}

static void mapped(void)
{
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr address = 0;
    size_t bytes = (1 + random_below(3)) * GRANULE_BYTES;
    const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    if (!done(cu.cuMemCreate(&handle, bytes, &properties, 0))) {
        return;
    }
    done(cu.cuMemAddressReserve(&address, bytes, 0, 0, 0));
    done(cu.cuMemMap(address, bytes, 0, handle, 0));
    done(cu.cuMemRelease(handle)); /* the mapping holds it now */
    done(cu.cuMemUnmap(address, bytes));
    done(cu.cuMemAddressFree(address, bytes));
}

static void module(void)
{
    CUmodule taken = NULL;
    if (done(cu.cuModuleLoadData(&taken, image))) {
        done(cu.cuModuleUnload(taken));
    }
}

static void graph(void)
{
    CUgraph captured = NULL;
    CUgraphExec exec = NULL;
    CUdeviceptr address = 0;
    done(cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_RELAXED));
    done(cu.cuMemAllocAsync(&address, some_bytes(), stream));
    done(cu.cuMemFreeAsync(address, stream));
    done(cu.cuStreamEndCapture(stream, &captured));
    done(cu.cuGraphInstantiateWithFlags(&exec, captured, 0));
    done(cu.cuGraphLaunch(exec, stream));
    done(cu.cuCtxSynchronize());
    done(cu.cuGraphExecDestroy(exec));
    done(cu.cuGraphDestroy(captured));
    done(cu.cuDeviceGraphMemTrim(0));
}

static void launches(void)
{
    for (uint64_t left = random_below(20); left > 0; left--) {
        done(cu.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL));
    }
}

static void (*const ways[])(void) = {plain, plain, plain, in_order, managed, pinned, array, mapped, module, graph, launches};

/* --- Who takes part ----------------------------------------------------------------------------------------------------------- */

static void start(void)
{
    CUcontext context = NULL;
    CUmodule loaded = NULL;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
#define CALL_FIND(name, parameters) *(void **)&cu.name = library != NULL ? dlsym(library, #name) : NULL;
    CALLS(CALL_FIND)
    CUresult initialised = cu.cuInit != NULL ? cu.cuInit(0) : CUDA_ERROR_NOT_FOUND;
    if (initialised != CUDA_SUCCESS) {
        fprintf(stderr, "victim: cuInit answered %d%s\n", (int)initialised, library == NULL ? ": no library" : "");
        _exit(2);
    }
    done(cu.cuDevicePrimaryCtxRetain(&context, 0));
    done(cu.cuCtxSetCurrent(context));
    while (!done(cu.cuModuleLoadData(&loaded, image))) {
        /* the slice is full just now */
    }
    done(cu.cuModuleGetFunction(&function, loaded, "spin"));
    done(cu.cuStreamCreate(&stream, 1));
}

static void be_quiet(struct quiet *quiet)
{
    done(cu.cuCtxSynchronize());
    atomic_store(&quiet->is_quiet, 1);
    while (atomic_load(&quiet->wanted)) {
        usleep(200);
    }
    atomic_store(&quiet->is_quiet, 0);
}

static int survive(struct quiet *quiet)
{
    CUdeviceptr held = 0;
    CUmodule loaded = NULL;
    start();
    if (cu.cuMemAlloc_v2(&held, HELD_BYTES) != CUDA_SUCCESS || cu.cuModuleLoadData(&loaded, image) != CUDA_SUCCESS) {
        return 4;
    }
    for (;;) {
        ways[random_below(sizeof ways / sizeof ways[0])]();
        atomic_fetch_add(&quiet->rounds, 1);
        if (atomic_load(&quiet->wanted)) {
            be_quiet(quiet);
        }
    }
}

/* All that is left, and not a byte more. */
static int fill(const char *left)
{
    CUdeviceptr taken = 0;
    CUdeviceptr more = 0;
    start();
    bool all = cu.cuMemAlloc_v2(&taken, strtoull(left, NULL, 10)) == CUDA_SUCCESS;
    return all && cu.cuMemAlloc_v2(&more, 1) == CUDA_ERROR_OUT_OF_MEMORY ? 0 : 1;
}

/* Keeps what it gets until it is refused: all racers together are at the limit. */
static void race(void)
{
    static CUdeviceptr taken[4];
    static unsigned count;
    if (count < 4 && done(cu.cuMemAlloc_v2(&taken[count], (1 + random_below(2)) * GRANULE_BYTES))) {
        count++;
    } else if (count > 0) {
        done(cu.cuMemFree_v2(taken[--count]));
    }
}

static void race_mapped(void)
{
    CUmemGenericAllocationHandle handle = 0;
    const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    if (done(cu.cuMemCreate(&handle, (1 + random_below(3)) * GRANULE_BYTES, &properties, 0))) {
        done(cu.cuMemRelease(handle));
    }
}

static void race_in_order(void)
{
    CUdeviceptr taken = 0;
    if (done(cu.cuMemAllocAsync(&taken, (1 + random_below(3)) * GRANULE_BYTES, stream))) {
        done(cu.cuMemFreeAsync(taken, stream));
    }
    done(cu.cuCtxSynchronize());
}

static void (*const races[])(void) = {race, race, race_mapped, race_in_order};

int main(int count, char **arguments)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    state = (uint64_t)getpid() * 0x9e3779b97f4a7c15ULL + (count > 1 ? strtoull(arguments[1], NULL, 10) : 0);
    if (count > 1 && strcmp(arguments[1], "survivor") == 0) {
        int file = open(bench_path(QUIET_FILE), O_RDWR);
        struct quiet *quiet = mmap(NULL, sizeof *quiet, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        return quiet != MAP_FAILED ? survive(quiet) : 5;
    }
    if (count > 2 && strcmp(arguments[1], "filler") == 0) {
        return fill(arguments[2]);
    }
    bool only_race = count > 1 && strcmp(arguments[1], "racer") == 0;
    start();
    for (;;) {
        only_race ? races[random_below(sizeof races / sizeof races[0])]() : ways[random_below(sizeof ways / sizeof ways[0])]();
    }
}
