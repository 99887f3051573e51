/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside a slice: every kind of memory is charged and given back exactly, captures are neither held up nor charged, and a killed slice's program can call
 * nothing any more. The program starts itself again, preloaded with the shim, over the fake driver.
 */
#define _GNU_SOURCE
#include "in_slice.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "../cuda/types.h"

#define LIMIT_BYTES (1ULL << 30)

static int passed;
static int failed;
static struct mica_usage_region *usage;

#define CALL(name, params)            \
    static CUresult(*name) params;
#define CALLS(C)                                                                                                                  \
    C(cuInit, (unsigned))                                                                                                         \
    C(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                                                     \
    C(cuMemAllocManaged, (CUdeviceptr *, size_t, unsigned))                                                                       \
    C(cuMemAllocPitch_v2, (CUdeviceptr *, size_t *, size_t, size_t, unsigned))                                                    \
    C(cuMemAllocHost_v2, (void **, size_t))                                                                                       \
    C(cuMemHostAlloc, (void **, size_t, unsigned))                                                                                \
    C(cuMemHostRegister_v2, (void *, size_t, unsigned))                                                                           \
    C(cuMemFreeHost, (void *))                                                                                                    \
    C(cuMemHostUnregister, (void *))                                                                                              \
    C(cuMemFree_v2, (CUdeviceptr))                                                                                                \
    C(cuMemCreate, (CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long))                     \
    C(cuMemRelease, (CUmemGenericAllocationHandle))                                                                               \
    C(cuMemMap, (CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long))                                  \
    C(cuMemUnmap, (CUdeviceptr, size_t))                                                                                          \
    C(cuMemRetainAllocationHandle, (CUmemGenericAllocationHandle *, void *))                                                      \
    C(cuArrayCreate_v2, (CUarray *, const CUDA_ARRAY_DESCRIPTOR *))                                                               \
    C(cuArray3DCreate_v2, (CUarray *, const CUDA_ARRAY3D_DESCRIPTOR *))                                                           \
    C(cuArrayDestroy, (CUarray))                                                                                                  \
    C(cuMipmappedArrayCreate, (CUmipmappedArray *, const CUDA_ARRAY3D_DESCRIPTOR *, unsigned))                                    \
    C(cuMipmappedArrayDestroy, (CUmipmappedArray))                                                                                \
    C(cuCtxGetCurrent, (CUcontext *))                                                                                             \
    C(cuCtxDestroy_v2, (CUcontext))                                                                                               \
    C(cuCtxSynchronize, (void))                                                                                                   \
    C(cuStreamBeginCapture_v2, (CUstream, int))                                                                                   \
    C(cuStreamEndCapture, (CUstream, CUgraph *))                                                                                  \
    C(cuMemAllocAsync, (CUdeviceptr *, size_t, CUstream))                                                                         \
    C(cuMemFreeAsync, (CUdeviceptr, CUstream))                                                                                    \
    C(cuDeviceGetMemPool, (CUmemoryPool *, CUdevice))                                                                             \
    C(cuMemPoolTrimTo, (CUmemoryPool, size_t))                                                                                    \
    C(cuMemPoolSetAttribute, (CUmemoryPool, int, void *))                                                                         \
    C(cuGraphCreate, (CUgraph *, unsigned))                                                                                       \
    C(cuGraphAddMemAllocNode, (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, CUDA_MEM_ALLOC_NODE_PARAMS *))                \
    C(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                                                  \
    C(cuGraphExecDestroy, (CUgraphExec))                                                                                          \
    C(cuDeviceGraphMemTrim, (CUdevice))                                                                                           \
    C(cuGraphLaunch, (CUgraphExec, CUstream))                                                                                     \
    C(cuLaunchGrid, (CUfunction, int, int))                                                                                       \
    C(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **))
CALLS(CALL)

static void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s (%llu bytes charged)\n", what, (unsigned long long)mica_charge_sum(usage, MICA_MEMORY_VRAM));
    }
}

static bool charged(uint64_t bytes)
{
    return mica_charge_sum(usage, MICA_MEMORY_VRAM) == bytes;
}

static bool pinned(uint64_t bytes)
{
    return mica_charge_sum(usage, MICA_MEMORY_PINNED) == bytes;
}

static CUresult launch(void)
{
    return cuLaunchKernel((CUfunction)8, 4, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL);
}

static void test_arrays(void)
{
    CUarray array;
    CUmipmappedArray mipmap;
    CUDA_ARRAY_DESCRIPTOR flat = {.Width = 100, .Height = 7, .Format = 0x20, .NumChannels = 4};
    CUDA_ARRAY3D_DESCRIPTOR deep = {.Width = 8, .Height = 4, .Depth = 2, .Format = 0x10, .NumChannels = 2};
    check(cuArrayCreate_v2(&array, &flat) == 0 && charged(100 * 7 * 16), "an array is charged its elements times their size");
    check(cuArrayDestroy(array) == 0 && charged(0), "and given back");
    flat.Height = 0;
    check(cuArrayCreate_v2(&array, &flat) == 0 && charged(100 * 16) && cuArrayDestroy(array) == 0, "a height of 0 makes a line");
    check(cuArray3DCreate_v2(&array, &deep) == 0 && charged(8 * 4 * 2 * 4) && cuArrayDestroy(array) == 0, "an array with depth is charged its volume");
    check(cuMipmappedArrayCreate(&mipmap, &deep, 3) == 0 && charged((64 + 8 + 2) * 4), "a mipmap is charged all its levels");
    check(cuMipmappedArrayDestroy(mipmap) == 0 && charged(0), "and given back");
    flat = (CUDA_ARRAY_DESCRIPTOR){.Width = 10, .Height = 6, .Format = 0x91, .NumChannels = 4};
    check(cuArrayCreate_v2(&array, &flat) == 0 && charged(3 * 2 * 8) && cuArrayDestroy(array) == 0, "block compression is charged whole blocks");
    flat = (CUDA_ARRAY_DESCRIPTOR){.Width = 64, .Height = 32, .Format = 0xb0, .NumChannels = 3};
    check(cuArrayCreate_v2(&array, &flat) == 0 && charged(64 * 48) && cuArrayDestroy(array) == 0, "NV12 is charged its two planes");
    deep = (CUDA_ARRAY3D_DESCRIPTOR){.Width = 8, .Height = 8, .Depth = 6, .Format = 0x20, .NumChannels = 1, .Flags = 4};
    check(cuMipmappedArrayCreate(&mipmap, &deep, 2) == 0 && charged((64 + 16) * 6 * 4) && cuMipmappedArrayDestroy(mipmap) == 0,
          "every level of a cube map is charged six faces");
    deep.Flags = 0x80;
    check(cuArray3DCreate_v2(&array, &deep) == 0 && charged(0) && cuArrayDestroy(array) == 0, "an array of deferred mapping has no memory to charge");
    flat = (CUDA_ARRAY_DESCRIPTOR){.Height = 1, .Format = 0x20, .NumChannels = 4};
    flat.Width = UINT64_MAX / 2;
    flat.Height = 1000;
    check(cuArrayCreate_v2(&array, &flat) == CUDA_ERROR_OUT_OF_MEMORY && charged(0), "an array whose size overflows is refused");
}

static void test_managed(void)
{
    CUdeviceptr address;
    check(cuMemAllocManaged(&address, 12345, 1) == 0 && charged(12345) && cuMemFree_v2(address) == 0 && charged(0), "managed memory is charged");
    check(cuMemAllocManaged(&address, LIMIT_BYTES + 1, 1) == CUDA_ERROR_OUT_OF_MEMORY, "and meets the limit");
}

static void test_pitch(void)
{
    CUdeviceptr address;
    size_t pitch;
    check(cuMemAllocPitch_v2(&address, &pitch, 300, 10, 4) == 0 && charged(512 * 10) && cuMemFree_v2(address) == 0 && charged(0),
          "a pitched allocation is charged its rows at the pitch that they got");
    check(cuMemAllocPitch_v2(&address, &pitch, 5000, 10, 4) == 0 && charged(8192 * 10) && cuMemFree_v2(address) == 0, "and more than was reserved if need be");
    bench_slice_write(8192 * 10 - 1, MICA_CONTROL_RUN);
    check(cuMemAllocPitch_v2(&address, &pitch, 5000, 10, 4) == CUDA_ERROR_OUT_OF_MEMORY && charged(0), "which is undone when it does not fit");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN);
}

static void test_pinned(void)
{
    void *pointer;
    CUcontext context;
    check(cuMemAllocHost_v2(&pointer, 1000) == 0 && pinned(1000) && charged(0) && cuMemFreeHost(pointer) == 0 && pinned(0), "pinned memory is charged apart");
    check(cuMemHostAlloc(&pointer, 2000, 0) == 0 && pinned(2000) && cuMemFreeHost(pointer) == 0 && pinned(0), "in all its forms");
    check(cuMemHostRegister_v2(&pointer, 3000, 0) == 0 && pinned(3000) && cuMemHostUnregister(&pointer) == 0 && pinned(0), "and what is registered with it");
    bench_slice_write_limits(LIMIT_BYTES, 4096, MICA_CONTROL_RUN);
    check(cuMemAllocHost_v2(&pointer, 4097) == CUDA_ERROR_OUT_OF_MEMORY && cuMemAllocHost_v2(&pointer, 4096) == 0 && pinned(4096), "up to its own limit");
    check(cuMemHostRegister_v2(&context, 1, 0) == CUDA_ERROR_OUT_OF_MEMORY && pinned(4096), "which holds for all of it together");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN);
    check(cuCtxGetCurrent(&context) == 0 && cuCtxDestroy_v2(context) == 0 && pinned(0), "and is given back with its context");
}

static void test_physical(void)
{
    CUmemAllocationProp device = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
    CUmemAllocationProp host = {.location = {.type = 2}};
    CUmemGenericAllocationHandle handle;
    CUmemGenericAllocationHandle again;
    check(cuMemCreate(&handle, 1 << 21, &host, 0) == 0 && charged(0) && pinned(1 << 21), "physical memory of the host is charged as pinned");
    check(cuMemRelease(handle) == 0 && pinned(0), "and given back");
    check(cuMemCreate(&handle, LIMIT_BYTES + 1, &device, 0) == CUDA_ERROR_OUT_OF_MEMORY, "physical memory meets the limit");
    check(cuMemCreate(&handle, 1 << 21, &device, 0) == 0 && cuMemRelease(handle) == 0 && charged(0), "a handle that was never mapped gives it back");
    check(cuMemCreate(&handle, 1 << 21, &device, 0) == 0 && charged(1 << 21), "physical memory is charged");
    check(cuMemMap(0x10000000, 1 << 20, 0, handle, 0) == 0 && cuMemMap(0x10100000, 1 << 20, 1 << 20, handle, 0) == 0, "it is mapped in two parts");
    check(cuMemRetainAllocationHandle(&again, NULL) == 0 && again == handle, "and retained once more");
    check(cuMemRelease(handle) == 0 && cuMemRelease(handle) == 0 && charged(1 << 21), "released and still mapped, it stays charged");
    check(cuMemUnmap(0x10000000, 1 << 20) == 0 && charged(1 << 21), "as long as one mapping is left");
    check(cuMemUnmap(0x10100000, 1 << 20) == 0 && charged(0), "and is given back with the last");
    check(cuMemCreate(&handle, 1 << 21, &device, 0) == 0 && cuMemMap(0x20000000, 1 << 20, 0, handle, 0) == 0 &&
              cuMemMap(0x20100000, 1 << 20, 0, handle, 0) == 0 && cuMemUnmap(0x20000000, 1 << 21) == 0 && charged(1 << 21) && cuMemRelease(handle) == 0 &&
              charged(0),
          "one unmap takes several mappings away, and the handle holds on");
}

#define CHUNK (32ULL << 20)

static void test_pool(void)
{
    CUmemoryPool pool;
    CUdeviceptr first;
    CUdeviceptr second;
    uint64_t threshold = 1ULL << 40;
    check(cuDeviceGetMemPool(&pool, 0) == 0 && cuMemAllocAsync(&first, 1000, NULL) == 0 && charged(CHUNK), "a pool is charged what the driver takes for it");
    check(cuMemAllocAsync(&second, CHUNK - 1024, NULL) == 0 && charged(CHUNK), "what fits into that costs nothing more");
    check(cuMemFreeAsync(first, NULL) == 0 && cuMemFree_v2(second) == 0 && charged(CHUNK), "what is freed stays charged as long as the pool keeps it");
    check(cuCtxSynchronize() == 0 && charged(0), "and is given back when the driver lets go of it, as the program waits");
    check(cuMemPoolSetAttribute(pool, 4, &threshold) == 0 && cuMemAllocAsync(&first, 2 * CHUNK, NULL) == 0 && cuMemFreeAsync(first, NULL) == 0 &&
              cuCtxSynchronize() == 0 && charged(2 * CHUNK),
          "below its threshold a pool keeps what is unused, and stays charged");
    check(cuMemAllocAsync(&first, 2 * CHUNK, NULL) == 0 && charged(2 * CHUNK) && cuMemFreeAsync(first, NULL) == 0, "for the next that fits");
    check(cuMemAlloc_v2(&first, LIMIT_BYTES) == 0 && charged(LIMIT_BYTES) && cuMemFree_v2(first) == 0, "or until another allocation needs it");
    bench_slice_write(CHUNK, MICA_CONTROL_RUN);
    check(cuMemAllocAsync(&first, CHUNK + 1, NULL) == CUDA_ERROR_OUT_OF_MEMORY && charged(0), "what does not fit is refused");
    bench_slice_write(CHUNK - 1, MICA_CONTROL_RUN);
    check(cuMemAllocAsync(&first, 1, NULL) == CUDA_ERROR_OUT_OF_MEMORY && charged(0), "and undone when the driver takes more for it than there is");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN);
    threshold = 0;
    (void)cuMemPoolSetAttribute(pool, 4, &threshold);
}

static void *churn_pool(void *unused)
{
    CUdeviceptr addresses[16];
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 16; i++) {
            if (cuMemAllocAsync(&addresses[i], (size_t)(i + 1) << 18, NULL) != 0) {
                addresses[i] = 0;
            }
        }
        if (round % 10 == 0) {
            cuCtxSynchronize();
        }
        for (int i = 0; i < 16; i++) {
            if (addresses[i] != 0) {
                cuMemFreeAsync(addresses[i], NULL);
            }
        }
    }
    return unused;
}

static void test_pool_threads(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, churn_pool, NULL);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    check(cuCtxSynchronize() == 0 && charged(0), "threads that use one pool and wait at once leave nothing charged");
}

static void test_graph_memory(void)
{
    const uint64_t bytes = 64ULL << 20;
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;
    CUdeviceptr address;
    CUDA_MEM_ALLOC_NODE_PARAMS params = {.bytesize = bytes};
    check(cuGraphCreate(&graph, 0) == 0 && cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params) == 0 &&
              cuGraphInstantiateWithFlags(&exec, graph, 0) == 0 && charged(0), "a graph that allocates costs nothing before it is launched");
    check(cuGraphLaunch(exec, NULL) == 0 && charged(bytes), "its first launch charges what the driver takes");
    check(cuGraphLaunch(exec, NULL) == 0 && charged(bytes), "the next ones charge no more");
    check(cuDeviceGraphMemTrim(0) == 0 && charged(0), "a trim gives it back");
    check(cuMemAlloc_v2(&address, LIMIT_BYTES - bytes + 1) == 0 && cuGraphLaunch(exec, NULL) == CUDA_ERROR_OUT_OF_MEMORY, "what does not fit is not launched");
    check(cuMemFree_v2(address) == 0 && cuGraphLaunch(exec, NULL) == 0 && charged(bytes), "until there is room again");
    check(cuDeviceGraphMemTrim(0) == 0 && cuGraphExecDestroy(exec) == 0 && charged(0), "and nothing is left");
}

static void test_context_end(void)
{
    CUcontext context;
    CUdeviceptr address;
    for (int i = 0; i < 1000; i++) {
        cuMemAlloc_v2(&address, 1000);
    }
    check(charged(1000000) && cuCtxGetCurrent(&context) == 0 && cuCtxDestroy_v2(context) == 0 && charged(0), "a context's end gives all it held back");
    check(cuMemFree_v2(address) == 0 && charged(0), "a free that comes later gives nothing back");
}

static void test_capture(void)
{
    CUgraph graph;
    uint64_t before = usage->launches;
    check(launch() == 0 && usage->launches == before + 1, "a launch is counted");
    check(cuStreamBeginCapture_v2(NULL, 0) == 0, "a capture begins");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_PAUSE);
    check(launch() == 0 && usage->launches == before + 1, "a launch into a capture is neither held up by a pause nor charged");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN);
    check(cuStreamEndCapture(NULL, &graph) == 0 && launch() == 0 && usage->launches == before + 2, "after the capture launches are charged again");
    check(cuGraphLaunch((CUgraphExec)16, NULL) == 0 && usage->launches == before + 3, "the launch of a graph is charged");
    check(cuLaunchGrid((CUfunction)8, 1, 1) == 0 && usage->launches == before + 4, "the oldest launch call is charged");
}

static void *allocate_when_awake(void *done)
{
    CUdeviceptr address = 0;
    CUresult result = cuMemAlloc_v2(&address, 4096);
    atomic_store((_Atomic int *)done, 1);
    return (void *)(uintptr_t)(result == 0 ? cuMemFree_v2(address) : result);
}

/* A request for memory waits while the slice is suspended, and is then granted: it is neither refused, nor charged meanwhile. */
static void test_suspended(void)
{
    _Atomic int done = 0;
    pthread_t thread;
    void *result;
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_SUSPEND);
    if (pthread_create(&thread, NULL, allocate_when_awake, &done) != 0) {
        check(false, "a thread");
        return;
    }
    usleep(30000);
    check(!atomic_load(&done) && charged(0), "a request for memory waits while its slice is suspended");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN);
    pthread_join(thread, &result);
    check(result == NULL && atomic_load(&done) && charged(0), "and is granted when it is not any more");
}

static void *churn(void *unused)
{
    CUdeviceptr addresses[64];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 64; i++) {
            if (cuMemAlloc_v2(&addresses[i], 1 << 20) != 0) {
                addresses[i] = 0;
            }
        }
        for (int i = 0; i < 64; i++) {
            if (addresses[i] != 0) {
                cuMemFree_v2(addresses[i]);
            }
        }
    }
    return unused;
}

static void test_threads(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, churn, NULL);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    check(charged(0), "threads that allocate and free at once leave nothing charged");
}

static void test_kill(void)
{
    CUdeviceptr address;
    check(cuCtxSynchronize() == 0, "a call that is passed through works");
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_KILL);
    check(launch() == CUDA_ERROR_NOT_PERMITTED && cuMemAlloc_v2(&address, 1) == CUDA_ERROR_NOT_PERMITTED, "a killed slice's calls fail");
    check(cuCtxSynchronize() == CUDA_ERROR_NOT_PERMITTED, "and so does what is passed through");
}

static int inside(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *region = NULL;
    if (library == NULL || mica_region_map(bench_usage_path(), MICA_REGION_USAGE, true, &region) != MICA_REGION_OK) {
        return 1;
    }
    usage = region;
#define FIND(name, params) *(void **)&name = dlsym(library, #name);
    CALLS(FIND)
    check(cuInit(0) == 0 && (usage->processes[0].owner & MICA_OWNER_HELD) != 0, "the process is attached");
    test_arrays();
    test_managed();
    test_pitch();
    test_pinned();
    test_physical();
    test_pool();
    test_pool_threads();
    test_context_end();
    test_suspended();
    test_capture();
    test_threads();
    test_graph_memory();
    test_kill();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_slice(arguments, LIMIT_BYTES, inside);
}
