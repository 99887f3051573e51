/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches. A kernel costs
 *
 *     launch_ns + ceil(blocks / (multiprocessors * blocks per multiprocessor)) * block_ns
 *
 * where blocks per multiprocessor follow from threads, registers aside, and shared memory, and block_ns is the node's
 * default or that of the first rule whose pattern matches the kernel's name.
 */
#include "driver.h"

#define SETTLE_EVERY 512
#define COST_MAX_NS (3600ULL * 1000000000ULL)

struct launch {
    CUfunction function;
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    CUstream stream;
    bool cooperative;
};

unsigned sim_blocks_per_multiprocessor(const struct sim_description *description, unsigned threads, size_t shared_bytes)
{
    unsigned warps = (threads + description->warp_threads - 1) / description->warp_threads;
    unsigned blocks = description->multiprocessor_threads_max / (warps * description->warp_threads);
    if (blocks > description->multiprocessor_blocks_max)
        blocks = description->multiprocessor_blocks_max;
    if (shared_bytes && blocks > description->multiprocessor_shared_bytes / shared_bytes)
        blocks = (unsigned)(description->multiprocessor_shared_bytes / shared_bytes);
    return blocks;
}

static CUresult check(const struct launch *launch, const struct sim_description *description, uint64_t *threads)
{
    static const unsigned block_max[3] = {1024, 1024, 64}, grid_max[3] = {2147483647, 65535, 65535};
    if (!sim_marked(launch->function, MARK_FUNCTION))
        return CUDA_ERROR_INVALID_HANDLE;
    *threads = 1;
    for (int i = 0; i < 3; i++) {
        if (!launch->grid[i] || !launch->block[i] || launch->grid[i] > grid_max[i] || launch->block[i] > block_max[i])
            return CUDA_ERROR_INVALID_VALUE;
        *threads *= launch->block[i];
    }
    if (*threads > description->block_threads_max || launch->shared_bytes > (unsigned)launch->function->dynamic_shared_max)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

static CUresult price(const struct launch *launch, const struct sim_visible *device, uint64_t *cost_ns)
{
    const struct sim_description *description = sim_visible_description(device);
    uint64_t threads;
    CUresult checked = check(launch, description, &threads);
    if (checked != CUDA_SUCCESS)
        return checked;
    uint64_t resident = sim_blocks_per_multiprocessor(description, (unsigned)threads, launch->shared_bytes);
    if (!resident)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    uint64_t wave = resident * sim_visible_multiprocessors(device);
    uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1];
    if (__builtin_mul_overflow(blocks, launch->grid[2], &blocks) || blocks > UINT64_MAX - wave)
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->cooperative && blocks > wave)
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    uint64_t waves = (blocks + wave - 1) / wave;
    if (__builtin_mul_overflow(waves, launch->function->block_ns, cost_ns) || *cost_ns > COST_MAX_NS)
        *cost_ns = COST_MAX_NS;
    *cost_ns += sim_node()->launch_ns;
    return CUDA_SUCCESS;
}

static void note(CUstream stream, uint64_t number)
{
    CUcontext context = stream->context;
    if (stream->last < number)
        stream->last = number;
    if (context->newest < number)
        context->newest = number;
    if (!(stream->flags & CU_STREAM_NON_BLOCKING) && context->newest_blocking < number)
        context->newest_blocking = number;
    if (number % SETTLE_EVERY == 0)
        sim_event_settle(sim_context_account(context), number);
}

static CUresult run(const struct launch *launch)
{
    CUstream stream;
    uint64_t cost_ns;
    SIM_ENTER();
    CUresult result = sim_stream_find(launch->stream, &stream);
    if (result == CUDA_SUCCESS)
        result = price(launch, sim_visible_at(stream->context->device), &cost_ns);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    int account = sim_context_account(stream->context);
    uint64_t number = sim_launch_try(account, cost_ns);
    while (!number) { /* the queue is full: wait outside of the driver lock, others may go on */
        sim_driver_leave(CUDA_SUCCESS);
        sim_launch_wait_room(account);
        SIM_ENTER();
        if (!sim_marked(stream, MARK_STREAM) || !sim_marked(stream->context, MARK_CONTEXT))
            return sim_driver_leave(CUDA_ERROR_CONTEXT_IS_DESTROYED);
        number = sim_launch_try(account, cost_ns);
    }
    note(stream, number);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuLaunchKernel LAUNCH_PARAMETERS
{
    (void)parameters;
    (void)extra;
    const struct launch launch = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, false};
    return run(&launch);
}

CUresult cuLaunchKernel_ptsz LAUNCH_PARAMETERS
{
    return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, sim_per_thread(stream), parameters, extra);
}

CUresult cuLaunchCooperativeKernel COOPERATIVE_PARAMETERS
{
    (void)parameters;
    const struct launch launch = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, true};
    return run(&launch);
}

CUresult cuLaunchCooperativeKernel_ptsz COOPERATIVE_PARAMETERS
{
    return cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, sim_per_thread(stream), parameters);
}

static CUresult launch_config(const CUlaunchConfig *c, CUfunction function, bool per_thread)
{
    if (!c || (c->attribute_count && !c->attributes))
        return CUDA_ERROR_INVALID_VALUE;
    struct launch launch = {function, {c->grid_x, c->grid_y, c->grid_z}, {c->block_x, c->block_y, c->block_z}, c->shared_bytes,
                            per_thread ? sim_per_thread(c->stream) : c->stream, false};
    const CUlaunchAttribute *attributes = c->attributes;
    for (unsigned i = 0; i < c->attribute_count; i++)
        if (attributes[i].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            launch.cooperative = attributes[i].value.cooperative != 0;
    return run(&launch);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    (void)parameters;
    (void)extra;
    return launch_config(config, function, false);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    (void)parameters;
    (void)extra;
    return launch_config(config, function, true);
}

/* --- Occupancy ----------------------------------------------------------------------------------------------------------------- */

/* Enter the driver with the current context's device. */
static CUresult enter_device(CUfunction function, const struct sim_visible **device)
{
    SIM_ENTER();
    CUcontext context = sim_context_current();
    if (!context || !sim_marked(function, MARK_FUNCTION))
        return sim_driver_leave(context ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_CONTEXT);
    *device = sim_visible_at(context->device);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block_threads, size_t dynamic_bytes)
{
    const struct sim_visible *device = NULL;
    CUresult entered = enter_device(function, &device);
    if (entered != CUDA_SUCCESS)
        return entered;
    const struct sim_description *description = sim_visible_description(device);
    if (!blocks || block_threads <= 0)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    bool fits = block_threads <= (int)description->block_threads_max && dynamic_bytes <= description->block_shared_optin_bytes;
    *blocks = fits ? (int)sim_blocks_per_multiprocessor(description, (unsigned)block_threads, dynamic_bytes) : 0;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int block_threads, size_t dynamic_bytes,
                                                              unsigned flags)
{
    return flags > 1 ? CUDA_ERROR_INVALID_VALUE : cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block_threads, dynamic_bytes);
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, size_t (*dynamic)(int), size_t dynamic_bytes, int limit)
{
    const struct sim_visible *device = NULL;
    CUresult entered = enter_device(function, &device);
    if (entered != CUDA_SUCCESS)
        return entered;
    const struct sim_description *description = sim_visible_description(device);
    unsigned most = description->block_threads_max, best = 0, best_blocks = 0;
    if (!grid || !block)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (limit > 0 && (unsigned)limit < most)
        most = (unsigned)limit;
    for (unsigned threads = most; threads; threads = threads > 32 ? (threads - 1) / 32 * 32 : 0) {
        unsigned blocks = sim_blocks_per_multiprocessor(description, threads, dynamic ? dynamic((int)threads) : dynamic_bytes);
        if (blocks * threads > best * best_blocks) {
            best = threads;
            best_blocks = blocks;
        }
    }
    *block = (int)best;
    *grid = (int)(best_blocks * sim_visible_multiprocessors(device));
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function, size_t (*dynamic)(int), size_t dynamic_bytes,
                                                   int limit, unsigned flags)
{
    return flags > 1 ? CUDA_ERROR_INVALID_VALUE : cuOccupancyMaxPotentialBlockSize(grid, block, function, dynamic, dynamic_bytes, limit);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction function, int blocks, int block_threads)
{
    const struct sim_visible *device = NULL;
    CUresult entered = enter_device(function, &device);
    if (entered != CUDA_SUCCESS)
        return entered;
    const struct sim_description *description = sim_visible_description(device);
    if (!bytes || blocks <= 0 || block_threads <= 0)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    size_t part = description->multiprocessor_shared_bytes / (unsigned)blocks;
    *bytes = part < description->block_shared_optin_bytes ? part : description->block_shared_optin_bytes;
    return sim_driver_leave(CUDA_SUCCESS);
}
