/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches: a kernel, or a whole graph of them, goes to the device only when the slice's compute share allows it. Its cost is estimated from what the
 * same function took before at the same grid size.
 */
#include "capture.h"
#include "context.h"
#include "graph.h"
#include "graph_memory.h"
#include "inflight.h"
#include "sample.h"
#include "urgent.h"

#include "../core/cost.h"
#include "../core/credit.h"
#include "../core/watch.h"

#define COUNT_NS 1000000ULL

/* One launch on its way to the driver. */
struct launch {
    uint64_t key; /* of what is launched, and at what size */
    CUfunction function; /* NULL: a graph */
    CUstream stream;
    struct context *context; /* NULL: nothing is to be settled afterwards */
    struct mica_cost *cost;
    struct sample *sample;
    struct mica_work work;
};

static void renew(struct launch *launch)
{
    launch->work.cost_ns = mica_cost_estimate(launch->cost);
    launch->work.alone = mica_cost_wants_alone(launch->cost);
}

static void poll_while_waiting(void *waiting)
{
    struct launch *launch = waiting;
    sample_poll(launch->context, mica_monotonic_ns());
    if (launch->work.limited) {
        int mode = capture_relax();
        (void)inflight_poll(launch->context);
        capture_restore(mode);
    }
    renew(launch);
}

/* A launch into a capturing stream is recorded into a graph and does not run: it costs nothing now, and must not be held up. */
static bool is_recorded(const struct launch *launch)
{
    return capture_is_used() && capture_is_active(launch->stream);
}

static void take_credit(const struct launch *launch)
{
    const struct mica_work *work = &launch->work;
    if (work->credit_ns == 0) {
        return;
    }
    mica_credit_learn(launch->key, launch->cost);
    struct mica_unused unused = mica_credit_renew(launch->context, launch->context->device, work->credit_ns);
    if (unused.ns != 0) {
        mica_launch_correct(unused.device, unused.ns, 0, NULL);
    }
    mica_watch_by(work->now_ns + COUNT_NS);
}

/* Wait for the launch's turn and charge it. Anything but success: do not launch. */
static CUresult launch_ask(struct launch *launch, struct context *context)
{
    if (is_recorded(launch)) {
        return CUDA_SUCCESS;
    }
    if (context->device == NULL) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    launch->context = context;
    launch->cost = mica_cost_find(launch->key);
    launch->work = (struct mica_work){.urgent = urgent_is(launch->function, launch->stream)};
    renew(launch);
    struct mica_wait wait = {.poll = poll_while_waiting, .context = launch};
    enum mica_verdict verdict = mica_launch_admit(context->device, &launch->work, &wait);
    if (verdict != MICA_GRANTED) {
        return verdict_result(verdict);
    }
    if (launch->work.claim_ns != 0) {
        mica_cost_tries_alone(launch->cost);
    }
    mica_cost_charged(launch->cost, launch->work.charged_ns);
    take_credit(launch);
    sample_poll(context, launch->work.now_ns);
    launch->sample = sample_begin(context, launch->cost, &launch->work, launch->stream);
    if (launch->sample == NULL) {
        mica_token_unclaim(launch->work.token, launch->work.claim_ns);
        launch->work.claim_ns = 0;
    }
    return CUDA_SUCCESS;
}

static CUresult launch_begin(struct launch *launch)
{
    switch (door()) {
    case DOOR_PASS:
        return CUDA_SUCCESS;
    case DOOR_CLOSED:
        return CUDA_ERROR_NOT_PERMITTED;
    default:
        break;
    }
    struct context *context = context_of_stream(launch->stream);
    return context != NULL ? launch_ask(launch, context) : CUDA_SUCCESS;
}

static CUresult launch_end(struct launch *launch, CUresult result)
{
    if (launch->context != NULL) {
        mica_launch_made(&launch->work);
    }
    if (launch->sample != NULL) {
        sample_end(launch->sample, launch->context, &launch->work, launch->stream, result);
    }
    if (launch->context != NULL && result != CUDA_SUCCESS) {
        mica_cost_uncharged(launch->cost);
        mica_launch_cancel(launch->context->device, &launch->work);
    } else if (launch->context != NULL && launch->work.counted) {
        inflight_follow(launch->context, launch->stream);
        mica_watch_by(launch->work.end_ns);
    }
    return result;
}

/* In programs built for it, stream 0 means the thread's own default stream. */
static CUstream per_thread(CUstream stream)
{
    return stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

static uint64_t volume(uint64_t x, uint64_t y, uint64_t z)
{
    return x * y * z;
}

/* Is the launch paid for already? Only inside a slice has a thread credit. */
static inline bool is_on_credit(uint64_t key, CUstream stream)
{
    if (mica_credit_own == NULL || mica_attach_state() != MICA_INSIDE || capture_is_used()) {
        return false;
    }
    const struct context *context = context_of_stream(stream);
    return context != NULL && mica_credit_use(context, key);
}

/* A hook that launches: admit, hand the call on, settle. A launch on credit is handed on as it came, by a jump: what asking needs is a function of its own. */
#define LAUNCH_HOOK(name, params, args, of, work_key, on_stream)                                \
    static __attribute__((noinline)) CUresult ask_##name params                             \
    {                                                                                       \
        struct launch launch = {.key = (work_key), .function = (of), .stream = (on_stream)};    \
        CUresult result = launch_begin(&launch);                                            \
        return result == CUDA_SUCCESS ? launch_end(&launch, below_##name args) : result;    \
    }                                                                                       \
    EXPORT CUresult name params                                                             \
    {                                                                                       \
        return is_on_credit((work_key), (on_stream)) ? below_##name args : ask_##name args; \
    }

#define KERNEL_KEY mica_cost_key((uintptr_t)function, volume(grid_x, grid_y, grid_z), volume(block_x, block_y, block_z) ^ (uint64_t)shared_bytes << 32)

#define KERNEL_PARAMS                                                                                                                 \
    (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, \
     unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params, void **extra)
#define KERNEL_ARGS (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params, extra)

LAUNCH_HOOK(cuLaunchKernel, KERNEL_PARAMS, KERNEL_ARGS, function, KERNEL_KEY, stream)
LAUNCH_HOOK(cuLaunchKernel_ptsz, KERNEL_PARAMS, KERNEL_ARGS, function, KERNEL_KEY, per_thread(stream))

#define COOPERATIVE_PARAMS                                                                                                            \
    (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, \
     unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params)
#define COOPERATIVE_ARGS (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params)

LAUNCH_HOOK(cuLaunchCooperativeKernel, COOPERATIVE_PARAMS, COOPERATIVE_ARGS, function, KERNEL_KEY, stream)
LAUNCH_HOOK(cuLaunchCooperativeKernel_ptsz, COOPERATIVE_PARAMS, COOPERATIVE_ARGS, function, KERNEL_KEY, per_thread(stream))

static uint64_t config_key(CUfunction function, const CUlaunchConfig *config)
{
    if (config == NULL) {
        return 1;
    }
    return mica_cost_key((uintptr_t)function, volume(config->gridDimX, config->gridDimY, config->gridDimZ),
                         volume(config->blockDimX, config->blockDimY, config->blockDimZ) ^ (uint64_t)config->sharedMemBytes << 32);
}

static CUstream config_stream(const CUlaunchConfig *config)
{
    return config != NULL ? config->hStream : NULL;
}

#define EX_PARAMS (const CUlaunchConfig *config, CUfunction function, void **params, void **extra)
#define EX_ARGS (config, function, params, extra)

LAUNCH_HOOK(cuLaunchKernelEx, EX_PARAMS, EX_ARGS, function, config_key(function, config), config_stream(config))
LAUNCH_HOOK(cuLaunchKernelEx_ptsz, EX_PARAMS, EX_ARGS, function, config_key(function, config), per_thread(config_stream(config)))

/* One kernel on several devices by one call. Each part is charged to the device of its own stream's context.
 *
 * A part that is admitted holds its device's room (launches in flight, the token) until all parts are. Two such calls that name the same devices in opposite
 * orders would wait for each other, so parts are admitted in the order of their devices' ids, which is the same in every process. */
#define PARTS_MAX MICA_DEVICES_MAX

struct part {
    struct launch launch;
    const struct context *context; /* of its stream */
};

static struct part part_of(const CUDA_LAUNCH_PARAMS *params)
{
    uint64_t threads = volume(params->blockDimX, params->blockDimY, params->blockDimZ) ^ (uint64_t)params->sharedMemBytes << 32;
    return (struct part){.launch = {.key = mica_cost_key((uintptr_t)params->function, volume(params->gridDimX, params->gridDimY, params->gridDimZ), threads),
                                    .function = params->function,
                                    .stream = params->hStream},
                         .context = context_of_stream(params->hStream)};
}

/* NULL: outside the slice. */
static const struct mica_device *part_device(const struct part *part)
{
    return part->context != NULL ? part->context->device : NULL;
}

/* By their devices' ids. A part outside the slice goes first: it is refused before anything is charged. */
static int part_order(const struct part *a, const struct part *b)
{
    const struct mica_device *of_a = part_device(a);
    const struct mica_device *of_b = part_device(b);
    return of_a == NULL || of_b == NULL ? (of_a != NULL) - (of_b != NULL) : strcmp(of_a->id, of_b->id);
}

/* The parts in the order in which they are admitted. False: two are on one device, which the driver refuses. */
static bool parts_sort(struct part *parts, const CUDA_LAUNCH_PARAMS *launches, unsigned count)
{
    bool distinct = true;
    for (unsigned i = 0; i < count; i++) {
        struct part part = part_of(&launches[i]);
        unsigned at = i;
        for (; at > 0 && part_order(&part, &parts[at - 1]) < 0; at--) {
            parts[at] = parts[at - 1];
        }
        parts[at] = part;
        distinct &= at == 0 || part_device(&part) == NULL || part_order(&part, &parts[at - 1]) != 0;
    }
    return distinct;
}

static CUresult launch_parts(struct part *parts, CUDA_LAUNCH_PARAMS *launches, unsigned count, unsigned flags)
{
    unsigned begun = 0;
    CUresult result = CUDA_SUCCESS;
    while (begun < count && result == CUDA_SUCCESS) {
        result = launch_begin(&parts[begun].launch);
        begun += result == CUDA_SUCCESS;
    }
    if (result == CUDA_SUCCESS) {
        result = below_cuLaunchCooperativeKernelMultiDevice(launches, count, flags);
    }
    for (unsigned i = 0; i < begun; i++) {
        (void)launch_end(&parts[i].launch, result);
    }
    return result;
}

EXPORT CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned int count, unsigned int flags)
{
    struct part parts[PARTS_MAX];
    switch (door()) {
    case DOOR_PASS:
        return below_cuLaunchCooperativeKernelMultiDevice(launches, count, flags);
    case DOOR_CLOSED:
        return CUDA_ERROR_NOT_PERMITTED;
    default:
        break;
    }
    /* More parts than a slice has devices cannot be on different ones. */
    if (launches == NULL || count > PARTS_MAX || !parts_sort(parts, launches, count)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return launch_parts(parts, launches, count, flags);
}

/* The calls of CUDA 1 to 3, which every driver still has. A function's block is set apart from its launch; the last shapes set are kept here. */
#define SHAPES 64

static struct {
    _Atomic uint64_t function;
    _Atomic uint64_t threads;
} shapes[SHAPES];

static unsigned shape_of(CUfunction function)
{
    return (unsigned)(((uintptr_t)function * 0x9e3779b97f4a7c15ULL) >> 40) % SHAPES;
}

EXPORT CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z)
{
    CUresult result = driver_load() ? below_cuFuncSetBlockShape(function, x, y, z) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS) {
        unsigned at = shape_of(function);
        atomic_store_explicit(&shapes[at].threads, volume((unsigned)x, (unsigned)y, (unsigned)z), memory_order_relaxed);
        atomic_store_explicit(&shapes[at].function, (uintptr_t)function, memory_order_relaxed);
    }
    return result;
}

static uint64_t legacy_key(CUfunction function, int width, int height)
{
    unsigned at = shape_of(function);
    bool known = atomic_load_explicit(&shapes[at].function, memory_order_relaxed) == (uintptr_t)function;
    uint64_t threads = known ? atomic_load_explicit(&shapes[at].threads, memory_order_relaxed) : 0;
    return mica_cost_key((uintptr_t)function, volume((unsigned)width, (unsigned)height, 1), threads);
}

LAUNCH_HOOK(cuLaunch, (CUfunction function), (function), function, legacy_key(function, 1, 1), NULL)
LAUNCH_HOOK(cuLaunchGrid, (CUfunction function, int width, int height), (function, width, height), function, legacy_key(function, width, height), NULL)
LAUNCH_HOOK(cuLaunchGridAsync, (CUfunction function, int width, int height, CUstream stream), (function, width, height, stream), function,
            legacy_key(function, width, height), stream)

/* A graph is launched whole, and costed whole; what its nodes allocate is charged around the launch. */
static CUresult launch_graph(CUgraphExec graph, CUstream stream, CUstream on_stream, CUresult (*below)(CUgraphExec, CUstream))
{
    struct launch launch;
    launch.key = graph_key(graph);
    launch.function = NULL;
    launch.stream = on_stream;
    launch.context = NULL;
    launch.sample = NULL;
    CUresult result = launch_begin(&launch);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    struct graph_memory memory = graph_memory_begin(graph, stream);
    result = memory.result == CUDA_SUCCESS ? below(graph, stream) : memory.result;
    graph_memory_end(&memory);
    return launch_end(&launch, result);
}

EXPORT CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream)
{
    return launch_graph(graph, stream, stream, below_cuGraphLaunch);
}

EXPORT CUresult cuGraphLaunch_ptsz(CUgraphExec graph, CUstream stream)
{
    return launch_graph(graph, stream, per_thread(stream), below_cuGraphLaunch_ptsz);
}
