/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches: a kernel, or a whole graph of them, goes to the device only when the slice's compute share allows it. Its cost is estimated from what the
 * same function took before at the same grid size.
 */
#include "context.h"
#include "sample.h"

#include "../core/cost.h"

/* One launch on its way to the driver. */
struct launch {
    uint64_t function; /* or graph: what is launched */
    uint64_t volume;   /* thread blocks */
    CUstream stream;
    struct context *context; /* NULL: the launch is not enforced */
    struct mica_cost *cost;
    struct sample *sample;
    uint64_t cost_ns;
};

static uint64_t poll_while_waiting(void *waiting)
{
    struct launch *launch = waiting;
    sample_poll(launch->context, mica_monotonic_ns());
    return mica_cost_estimate(launch->cost);
}

/* A launch into a capturing stream is recorded into a graph and does not run: it costs nothing now, and must not be held up. */
static bool is_recorded(const struct launch *launch)
{
    return capture_is_used() && capture_is_active(launch->stream);
}

/* Wait for the launch's turn and charge it. Anything but success: do not launch. */
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
    struct context *context = context_current();
    if (context == NULL || is_recorded(launch)) {
        return CUDA_SUCCESS;
    }
    if (context->device == NULL) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    launch->context = context;
    launch->cost = mica_cost_find(launch->function, launch->volume);
    launch->cost_ns = mica_cost_estimate(launch->cost);
    uint64_t now_ns = 0;
    struct mica_wait wait = {.poll = poll_while_waiting, .context = launch, .now_ns = &now_ns};
    enum mica_verdict verdict = mica_launch_admit(context->device, &launch->cost_ns, &wait);
    if (verdict != MICA_GRANTED) {
        return verdict_result(verdict);
    }
    mica_cost_charged(launch->cost);
    sample_poll(context, now_ns);
    launch->sample = sample_begin(context, launch->cost, launch->stream, now_ns);
    return CUDA_SUCCESS;
}

static CUresult launch_end(struct launch *launch, CUresult result)
{
    if (launch->sample != NULL) {
        sample_end(launch->context, launch->sample, launch->stream, result);
    }
    if (launch->context != NULL && result != CUDA_SUCCESS) {
        mica_cost_uncharged(launch->cost);
        mica_launch_correct(launch->context->device, launch->cost_ns, 0);
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

/* A hook that launches: admit, hand the call on, settle. */
#define LAUNCH_HOOK(name, params, args, what, blocks, on_stream)                                              \
    EXPORT CUresult name params                                                                               \
    {                                                                                                         \
        struct launch launch = {.function = (uint64_t)(uintptr_t)(what), .volume = (blocks), .stream = (on_stream)}; \
        CUresult result = launch_begin(&launch);                                                              \
        return result == CUDA_SUCCESS ? launch_end(&launch, below_##name args) : result;                      \
    }

#define KERNEL_PARAMS                                                                                                                 \
    (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, \
     unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params, void **extra)
#define KERNEL_ARGS (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params, extra)

LAUNCH_HOOK(cuLaunchKernel, KERNEL_PARAMS, KERNEL_ARGS, function, volume(grid_x, grid_y, grid_z), stream)
LAUNCH_HOOK(cuLaunchKernel_ptsz, KERNEL_PARAMS, KERNEL_ARGS, function, volume(grid_x, grid_y, grid_z), per_thread(stream))

#define COOPERATIVE_PARAMS                                                                                                            \
    (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x, unsigned int block_y, \
     unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params)
#define COOPERATIVE_ARGS (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, params)

LAUNCH_HOOK(cuLaunchCooperativeKernel, COOPERATIVE_PARAMS, COOPERATIVE_ARGS, function, volume(grid_x, grid_y, grid_z), stream)
LAUNCH_HOOK(cuLaunchCooperativeKernel_ptsz, COOPERATIVE_PARAMS, COOPERATIVE_ARGS, function, volume(grid_x, grid_y, grid_z), per_thread(stream))

static uint64_t config_volume(const CUlaunchConfig *config)
{
    return config != NULL ? volume(config->gridDimX, config->gridDimY, config->gridDimZ) : 0;
}

static CUstream config_stream(const CUlaunchConfig *config)
{
    return config != NULL ? config->hStream : NULL;
}

#define EX_PARAMS (const CUlaunchConfig *config, CUfunction function, void **params, void **extra)
#define EX_ARGS (config, function, params, extra)

LAUNCH_HOOK(cuLaunchKernelEx, EX_PARAMS, EX_ARGS, function, config_volume(config), config_stream(config))
LAUNCH_HOOK(cuLaunchKernelEx_ptsz, EX_PARAMS, EX_ARGS, function, config_volume(config), per_thread(config_stream(config)))

/* One kernel on several devices at once, before CUDA 13. It is charged to the device of the current context, at the size of all its parts. */
static uint64_t parts_volume(const CUDA_LAUNCH_PARAMS *launches, unsigned int count)
{
    uint64_t total = 0;
    for (unsigned int i = 0; launches != NULL && i < count; i++) {
        total += volume(launches[i].gridDimX, launches[i].gridDimY, launches[i].gridDimZ);
    }
    return total;
}

LAUNCH_HOOK(cuLaunchCooperativeKernelMultiDevice, (CUDA_LAUNCH_PARAMS * launches, unsigned int count, unsigned int flags), (launches, count, flags),
            launches != NULL && count != 0 ? launches[0].function : NULL, parts_volume(launches, count),
            launches != NULL && count != 0 ? launches[0].hStream : NULL)

/* The calls of CUDA 1 to 3, which every driver still has. */
LAUNCH_HOOK(cuLaunch, (CUfunction function), (function), function, 1, NULL)
LAUNCH_HOOK(cuLaunchGrid, (CUfunction function, int width, int height), (function, width, height), function, volume((unsigned)width, (unsigned)height, 1),
            NULL)
LAUNCH_HOOK(cuLaunchGridAsync, (CUfunction function, int width, int height, CUstream stream), (function, width, height, stream), function,
            volume((unsigned)width, (unsigned)height, 1), stream)

/* A graph is launched whole, and costed whole: volume 0 tells it from a kernel at the same address. */
LAUNCH_HOOK(cuGraphLaunch, (CUgraphExec graph, CUstream stream), (graph, stream), graph, 0, stream)
LAUNCH_HOOK(cuGraphLaunch_ptsz, (CUgraphExec graph, CUstream stream), (graph, stream), graph, 0, per_thread(stream))
