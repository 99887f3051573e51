/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside a slice: graphs cost what their kernels cost, every kind of launch and copy is charged to the right work, and limits on launches in flight, their rate
 * and copies hold. The program starts itself again, preloaded with the shim, over the fake driver.
 */
#define _GNU_SOURCE
#include "in_slice.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../core/cost.h"
#include "../cuda/types.h"

#define MS 1000000ULL
#define PATIENCE 20000 /* looks, a millisecond apart */
#define MANY 1000

static int passed;
static int failed;
static struct mica_usage_region *usage;

#define CALL(name, params) static CUresult(*name) params;
#define CALLS(C)                                                                                                                  \
    C(cuInit, (unsigned))                                                                                                         \
    C(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **)) \
    C(cuStreamCreateWithPriority, (CUstream *, unsigned, int))                                                                    \
    C(cuStreamDestroy_v2, (CUstream))                                                                                             \
    C(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                                                                \
    C(cuLaunchGrid, (CUfunction, int, int))                                                                                       \
    C(cuFuncSetBlockShape, (CUfunction, int, int, int))                                                                           \
    C(cuLaunchCooperativeKernelMultiDevice, (CUDA_LAUNCH_PARAMS *, unsigned, unsigned))                                           \
    C(cuGraphCreate, (CUgraph *, unsigned))                                                                                       \
    C(cuGraphAddKernelNode_v2, (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, const CUDA_KERNEL_NODE_PARAMS *))            \
    C(cuGraphAddChildGraphNode, (CUgraphNode *, CUgraph, const CUgraphNode *, size_t, CUgraph))                                   \
    C(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                                                  \
    C(cuGraphExecUpdate_v2, (CUgraphExec, CUgraph, void *))                                                                       \
    C(cuGraphExecDestroy, (CUgraphExec))                                                                                          \
    C(cuGraphNodeSetEnabled, (CUgraphExec, CUgraphNode, unsigned))                                                                \
    C(cuGraphExecKernelNodeSetParams_v2, (CUgraphExec, CUgraphNode, const CUDA_KERNEL_NODE_PARAMS *))                             \
    C(cuGraphExecChildGraphNodeSetParams, (CUgraphExec, CUgraphNode, CUgraph))                                                    \
    C(cuGraphLaunch, (CUgraphExec, CUstream))                                                                                     \
    C(cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t))                                                                       \
    C(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *))                                                                                     \
    C(cuMemcpy3DAsync_v2, (const CUDA_MEMCPY3D *, CUstream))                                                                      \
    C(cuMemsetD16Async, (CUdeviceptr, unsigned short, size_t, CUstream))                                                          \
    C(cuMemsetD2D32_v2, (CUdeviceptr, size_t, unsigned, size_t, size_t))                                                          \
    C(cuMemcpyBatchAsync, (CUdeviceptr *, CUdeviceptr *, size_t *, size_t, void *, size_t *, size_t, size_t *, CUstream))
CALLS(CALL)
static void (*fake_work)(float, int);
static int (*fake_unmeasured)(void);

static void check(bool holds, const char *what)
{
    *(holds ? &passed : &failed) += 1;
    if (!holds) {
        printf("FAILED: %s (%llu ns, %llu launches, %llu bytes)\n", what, (unsigned long long)usage->gpu_ns, (unsigned long long)usage->launches,
               (unsigned long long)usage->copied_bytes);
    }
}

static void rest(void)
{
    struct timespec time = {.tv_nsec = 1000000};
    nanosleep(&time, NULL);
}

static bool comes_to(const MICA_ATOMIC_U64 *word, uint64_t value)
{
    for (int i = 0; i < PATIENCE && atomic_load(word) != value; i++) {
        rest();
    }
    return atomic_load(word) == value;
}

/* Let what is left end, at what unknown work was charged, so that nothing is corrected. */
static void finish_unknown(void)
{
    fake_work((float)MICA_COST_UNKNOWN_NS / 1e6F, 0);
    for (int i = 0; i < PATIENCE && fake_unmeasured() != 0; i++) {
        rest();
    }
    check(fake_unmeasured() == 0, "what was begun to be measured is measured when it ends");
}

static CUresult launch(uintptr_t function)
{
    return cuLaunchKernel((CUfunction)function, 4, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL);
}

/* Launch a kernel that takes so long, and wait until the shim knows. */
static void teach(uintptr_t function, uint64_t ns)
{
    uint64_t before = usage->gpu_ns;
    fake_work((float)ns / 1e6F, 0);
    check(launch(function) == 0 && comes_to(&usage->gpu_ns, before + ns), "a kernel that was unknown is charged what it took, once that is known");
    fake_work(1, 1); /* from now on nothing is measured */
}

static CUDA_KERNEL_NODE_PARAMS node_of(uintptr_t function)
{
    return (CUDA_KERNEL_NODE_PARAMS){.func = (CUfunction)function,
                                     .gridDimX = 4,
                                     .gridDimY = 1,
                                     .gridDimZ = 1,
                                     .blockDimX = 32,
                                     .blockDimY = 1,
                                     .blockDimZ = 1};
}

/* What the next launch of the graph is charged. */
static uint64_t cost_of(CUgraphExec executable)
{
    uint64_t before = usage->gpu_ns;
    return cuGraphLaunch(executable, NULL) == 0 ? usage->gpu_ns - before : 0;
}

static void test_graphs(void)
{
    CUgraph graph;
    CUgraph child;
    CUgraph other;
    CUgraphNode nodes[3];
    CUgraphNode inner;
    CUgraphExec executable;
    teach(0x100, 1 * MS);
    teach(0x200, 3 * MS);
    CUDA_KERNEL_NODE_PARAMS one = node_of(0x100);
    CUDA_KERNEL_NODE_PARAMS three = node_of(0x200);
    CUDA_KERNEL_NODE_PARAMS unknown = node_of(0x300);
    cuGraphCreate(&graph, 0);
    cuGraphCreate(&child, 0);
    cuGraphCreate(&other, 0);
    cuGraphAddKernelNode_v2(&inner, child, NULL, 0, &three);
    cuGraphAddKernelNode_v2(&nodes[0], graph, NULL, 0, &one);
    cuGraphAddKernelNode_v2(&nodes[1], graph, NULL, 0, &one);
    cuGraphAddChildGraphNode(&nodes[2], graph, NULL, 0, child);
    cuGraphAddKernelNode_v2(&inner, other, NULL, 0, &one);
    check(cuGraphInstantiateWithFlags(&executable, graph, 0) == 0 && cost_of(executable) == 5 * MS, "a graph costs what its kernels cost, those of its children too");
    check(cuGraphNodeSetEnabled(executable, nodes[0], 0) == 0 && cost_of(executable) == 4 * MS, "a node that is switched off costs nothing");
    check(cuGraphNodeSetEnabled(executable, nodes[0], 1) == 0 && cost_of(executable) == 5 * MS, "until it is switched on again");
    check(cuGraphExecKernelNodeSetParams_v2(executable, nodes[0], &three) == 0 && cost_of(executable) == 7 * MS, "a node whose kernel is replaced costs the new one");
    check(cuGraphExecChildGraphNodeSetParams(executable, nodes[2], other) == 0 && cost_of(executable) == 5 * MS, "and so does a child graph that is replaced");
    check(cuGraphExecUpdate_v2(executable, other, NULL) == 0 && cost_of(executable) == 1 * MS, "an updated graph costs what it was updated to");
    check(cuGraphExecKernelNodeSetParams_v2(executable, inner, &unknown) == 0 && cost_of(executable) == MICA_COST_UNKNOWN_NS, "a graph with a kernel that nobody knows is unknown");
    check(cuGraphExecDestroy(executable) == 0 && cost_of(executable) == MICA_COST_UNKNOWN_NS, "and a destroyed one's address says nothing");
    finish_unknown();
}

static uint64_t charge_of_grid(void)
{
    uint64_t before = usage->gpu_ns;
    return cuLaunchGrid((CUfunction)0x400, 4, 1) == 0 ? usage->gpu_ns - before : 0;
}

static void test_kinds(void)
{
    uint64_t before = usage->gpu_ns;
    fake_work(2, 0);
    check(cuFuncSetBlockShape((CUfunction)0x400, 64, 1, 1) == 0 && charge_of_grid() != 0 && comes_to(&usage->gpu_ns, before + 2 * MS), "the oldest launch is measured");
    fake_work(2, 1);
    check(charge_of_grid() == 2 * MS, "and known");
    check(cuFuncSetBlockShape((CUfunction)0x400, 128, 1, 1) == 0 && charge_of_grid() == MICA_COST_UNKNOWN_NS, "another block shape is other work");
    check(cuFuncSetBlockShape((CUfunction)0x400, 64, 1, 1) == 0 && charge_of_grid() == 2 * MS, "and the first one is known still");
    finish_unknown();
    CUDA_LAUNCH_PARAMS parts[2] = {{.function = (CUfunction)0x1100, .gridDimX = 4, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 32, .blockDimY = 1, .blockDimZ = 1}};
    parts[1] = parts[0];
    teach(0x1100, 1 * MS);
    before = usage->gpu_ns;
    check(cuLaunchCooperativeKernelMultiDevice(parts, 1, 0) == 0 && usage->gpu_ns == before + 1 * MS, "a launch on several devices is charged for each part");
    check(cuLaunchCooperativeKernelMultiDevice(parts, 2, 0) == CUDA_ERROR_INVALID_VALUE && usage->gpu_ns == before + 1 * MS, "and for none if two are on one device");
    finish_unknown();
}

static void *launch_three(void *unused)
{
    for (int i = 0; i < 3; i++) {
        launch(0x200);
    }
    return unused;
}

/* Begin three launches under limits that let two go, see the third wait, and let it go by what `release` does. */
static void test_third_waits(struct mica_slice_limits limits, uint64_t let_go, void (*release)(void), const char *what)
{
    pthread_t thread;
    uint64_t launches = usage->launches;
    bench_slice_put(&limits);
    uint64_t waited = usage->throttled_ns;
    pthread_create(&thread, NULL, launch_three, NULL);
    for (int i = 0; i < PATIENCE && usage->throttled_ns < waited + 3 * MS; i++) {
        rest();
    }
    check(usage->throttled_ns >= waited + 3 * MS && usage->launches == launches + let_go, what);
    release();
    pthread_join(thread, NULL);
    check(comes_to(&usage->launches, launches + 3), "and goes on when it may");
}

static void *launch_many(void *unused)
{
    for (int i = 0; i < MANY / 4; i++) {
        launch(0x200);
    }
    return unused;
}

/* Threads that find every place taken at the same time each make more. */
static void test_many_in_flight(void)
{
    struct mica_slice_limits limits = bench_slice_limits(1ULL << 30);
    pthread_t threads[8];
    limits.inflight_max = 3 * MANY;
    bench_slice_put(&limits);
    fake_work(3, 1);
    for (int i = 0; i < 8; i++) {
        pthread_create(&threads[i], NULL, launch_many, NULL);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    check(usage->processes[0].inflight == 8 * (MANY / 4), "what several threads have in flight is counted");
    fake_work(3, 0);
    check(comes_to(&usage->processes[0].inflight, 0), "until it has ended");
    bench_slice_write(1ULL << 30, MICA_CONTROL_RUN);
}

static void finish_work(void)
{
    fake_work(3, 0);
}

static void lift_limits(void)
{
    bench_slice_write(1ULL << 30, MICA_CONTROL_RUN);
}

static void test_limits(void)
{
    struct mica_slice_limits limits = bench_slice_limits(1ULL << 30);
    fake_work(3, 1);
    limits.inflight_max = 2;
    test_third_waits(limits, 2, finish_work, "with two in flight a third launch waits");
    check(comes_to(&usage->processes[0].inflight, 0), "what has ended is in flight no more");
    fake_work(3, 1);
    limits.inflight_max = MANY + 2;
    bench_slice_put(&limits);
    for (int i = 0; i < MANY; i++) {
        launch(0x200);
    }
    test_third_waits(limits, 2, finish_work, "and so does one that comes after a thousand others");
    check(comes_to(&usage->processes[0].inflight, 0), "which all are counted until they end");
    limits.inflight_max = 0;
    limits.launch_rate_hz = 1;
    usage->launch_time_ns = mica_monotonic_ns() - 1; /* the next is due, the one after that in a second */
    test_third_waits(limits, 1, lift_limits, "with one launch a second the second one waits");
    lift_limits();
}

/* Whether a launch is let go at once while the slice is `ahead_ns` over its rate. */
static bool goes_at_once(CUfunction function, CUstream stream, uint64_t ahead_ns)
{
    uint64_t waited = usage->throttled_ns;
    uint64_t before = usage->virtual_time_ns;
    usage->virtual_time_ns = mica_monotonic_ns() + ahead_ns;
    CUresult result = cuLaunchKernel(function, 4, 1, 1, 32, 1, 1, 0, stream, NULL, NULL);
    usage->virtual_time_ns = before;
    return result == 0 && usage->throttled_ns == waited;
}

static void test_communication(void)
{
    struct mica_slice_limits limits = bench_slice_limits(1ULL << 30);
    CUstream plain;
    CUstream fast;
    CUfunction collective;
    limits.burst_ns = 0;
    bench_slice_put(&limits);
    fake_work(0.05F, 0);
    check(cuStreamCreateWithPriority(&plain, 0, 0) == 0 && cuStreamCreateWithPriority(&fast, 0, -1) == 0, "streams are made");
    check(cuModuleGetFunction(&collective, (CUmodule)0x700, "ncclDevKernel_AllReduce") == 0, "a kernel is asked for by name");
    check(goes_at_once((CUfunction)0x600, fast, 9 * MS), "a stream of higher priority may overdraw the rate");
    check(goes_at_once(collective, NULL, 9 * MS), "and so may a kernel of a collective library");
    check(!goes_at_once((CUfunction)0x600, plain, 100 * MS), "an ordinary stream may not");
    check(!goes_at_once((CUfunction)0x600, fast, 100 * MS), "and nobody may by more than a period");
    check(cuStreamDestroy_v2(fast) == 0 && cuStreamDestroy_v2(plain) == 0, "streams are ended");
    lift_limits();
}

static void test_copies(void)
{
    struct mica_slice_limits limits = bench_slice_limits(1ULL << 30);
    CUDA_MEMCPY2D flat = {.WidthInBytes = 30, .Height = 7};
    CUDA_MEMCPY3D deep = {.WidthInBytes = 30, .Height = 7, .Depth = 5};
    size_t sizes[] = {100, 23};
    check(cuMemcpyHtoD_v2(0x1000, "", 1) == 0 && usage->copied_bytes == 0, "without a bandwidth copies are not counted");
    limits.copy_bytes_per_s = 1000000000;
    bench_slice_put(&limits);
    check(cuMemcpyHtoD_v2(0x1000, "", 1000) == 0 && usage->copied_bytes == 1000, "a copy is charged its bytes");
    check(cuMemcpy2D_v2(&flat) == 0 && usage->copied_bytes == 1210, "one of a rectangle its rectangle");
    check(cuMemcpy3DAsync_v2(&deep, NULL) == 0 && usage->copied_bytes == 2260, "one of a box its box");
    check(cuMemsetD16Async(0x1000, 1, 50, NULL) == 0 && usage->copied_bytes == 2360, "a fill its words");
    check(cuMemsetD2D32_v2(0x1000, 64, 1, 10, 3) == 0 && usage->copied_bytes == 2480, "a fill of a rectangle its words");
    check(cuMemcpyBatchAsync(NULL, NULL, sizes, 2, NULL, NULL, 0, NULL, NULL) == 0 && usage->copied_bytes == 2603, "a batch the sum of its sizes");
    lift_limits();
}

static void *copy_twice(void *unused)
{
    cuMemcpyHtoD_v2(0x1000, "", 1000000000);
    cuMemcpyHtoD_v2(0x1000, "", 1);
    return unused;
}

static void test_bandwidth(void)
{
    struct mica_slice_limits limits = bench_slice_limits(1ULL << 30);
    pthread_t thread;
    limits.copy_bytes_per_s = 1000; /* the first copy is worth eleven days */
    limits.burst_ns = 0;
    bench_slice_put(&limits);
    uint64_t bytes = usage->copied_bytes;
    uint64_t waited = usage->throttled_ns;
    pthread_create(&thread, NULL, copy_twice, NULL);
    for (int i = 0; i < PATIENCE && usage->throttled_ns < waited + 3 * MS; i++) {
        rest();
    }
    check(usage->throttled_ns >= waited + 3 * MS && usage->copied_bytes == bytes + 1000000000, "a copy waits until the one before it is paid for");
    lift_limits();
    pthread_join(thread, NULL);
    check(usage->copied_bytes == bytes + 1000000000, "and no longer than the limit holds");
}

static int inside(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *region = NULL;
    void *fake = dlopen(FAKE_PATH, RTLD_NOW);
    if (library == NULL || fake == NULL || mica_region_map(bench_usage_path(), MICA_REGION_USAGE, true, &region) != MICA_REGION_OK) {
        return 1;
    }
    usage = region;
#define FIND(name, params)                       \
    *(void **)&name = dlsym(library, #name);     \
    if (name == NULL) {                          \
        *(void **)&name = dlsym(fake, #name);    \
    }
    CALLS(FIND)
    *(void **)&fake_work = dlsym(fake, "fake_work");
    *(void **)&fake_unmeasured = dlsym(fake, "fake_unmeasured");
    check(cuInit(0) == 0, "the process is attached");
    test_graphs();
    test_kinds();
    test_many_in_flight();
    test_limits();
    test_communication();
    test_copies();
    test_bandwidth();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_slice(arguments, 1ULL << 30, inside);
}
