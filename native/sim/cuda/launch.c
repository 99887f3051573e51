/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches. A kernel costs
 *
 *     launch_ns + fixed_ns + waves * block_ns + blocks * grid_ns * all multiprocessors / its own
 *     waves = ceil(blocks / (its multiprocessors * blocks per multiprocessor))
 *
 * where blocks per multiprocessor follow from threads, registers aside, and shared memory, and the rest from the first
 * rule of the node whose pattern matches the kernel's name (or its default block_ns); all but launch_ns with noise.
 */
#include "driver.h"

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

static CUresult check_shape(const struct sim_kernel *kernel, const struct sim_description *description, uint64_t *threads)
{
    static const unsigned block_max[3] = {1024, 1024, 64}, grid_max[3] = {2147483647, 65535, 65535};
    if (!sim_marked(kernel->function, MARK_FUNCTION))
        return CUDA_ERROR_INVALID_HANDLE;
    *threads = 1;
    for (int i = 0; i < 3; i++) {
        if (!kernel->grid[i] || !kernel->block[i] || kernel->grid[i] > grid_max[i] || kernel->block[i] > block_max[i])
            return CUDA_ERROR_INVALID_VALUE;
        *threads *= kernel->block[i];
    }
    if (*threads > description->block_threads_max || kernel->shared_bytes > (unsigned)kernel->function->dynamic_shared_max)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

/* The kernel's grid on the multiprocessors of the stream's context. */
static CUresult measure(CUstream stream, const struct sim_kernel *kernel, struct sim_grid *grid)
{
    const struct sim_visible *device = sim_visible_at(stream->context->device);
    const struct sim_description *description = sim_visible_description(device);
    uint64_t threads;
    CUresult checked = check_shape(kernel, description, &threads);
    if (checked != CUDA_SUCCESS)
        return checked;
    grid->resident_blocks = sim_blocks_per_multiprocessor(description, (unsigned)threads, kernel->shared_bytes);
    if (!grid->resident_blocks)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    grid->multiprocessors = stream->context->multiprocessors;
    grid->all = device->all_multiprocessors;
    grid->blocks = (uint64_t)kernel->grid[0] * kernel->grid[1];
    if (__builtin_mul_overflow(grid->blocks, kernel->grid[2], &grid->blocks) || grid->blocks > UINT64_MAX / 2)
        return CUDA_ERROR_INVALID_VALUE;
    if (kernel->cooperative && grid->blocks > grid->resident_blocks * grid->multiprocessors)
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    return CUDA_SUCCESS;
}

CUresult sim_kernel_check(CUstream stream, const struct sim_kernel *kernel)
{
    struct sim_grid grid;
    return measure(stream, kernel, &grid);
}

CUresult sim_kernel_start(CUstream stream, const struct sim_kernel *kernel, const struct sim_position *after, struct sim_position *reached)
{
    struct sim_grid grid;
    uint32_t multiprocessors;
    CUresult checked = measure(stream, kernel, &grid);
    if (checked != CUDA_SUCCESS)
        return checked;
    uint64_t cost_ns = sim_kernel_cost_ns(kernel->function->rule, &grid, kernel->function->launches++, &multiprocessors);
    return sim_order(stream->context, stream->lane, cost_ns, multiprocessors, after, reached);
}

static CUresult run(const struct sim_work *work, CUstream handle)
{
    CUstream stream;
    SIM_ENTER();
    CUresult result = sim_stream_find(handle, &stream);
    if (result == CUDA_SUCCESS && sim_gate_needed(stream, work)) /* else starting it checks it */
        result = sim_work_check(stream, work);
    return sim_driver_leave(result == CUDA_SUCCESS ? sim_stream_submit(stream, work) : result);
}

#define KERNEL_WORK(is_cooperative, extra_given)                                                                                           \
    struct sim_work work;                                                                                                                  \
    work.kind = WORK_KERNEL;                                                                                                               \
    work.kernel = (struct sim_kernel){                                                                                                     \
        function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, is_cooperative, parameters, extra_given}

CUresult cuLaunchKernel LAUNCH_PARAMETERS
{
    KERNEL_WORK(false, extra);
    return run(&work, stream);
}

CUresult cuLaunchKernel_ptsz LAUNCH_PARAMETERS
{
    return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, sim_per_thread(stream), parameters, extra);
}

CUresult cuLaunchCooperativeKernel COOPERATIVE_PARAMETERS
{
    KERNEL_WORK(true, NULL);
    return run(&work, stream);
}

CUresult cuLaunchCooperativeKernel_ptsz COOPERATIVE_PARAMETERS
{
    return cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, sim_per_thread(stream), parameters);
}

static CUresult launch_config(const CUlaunchConfig *c, CUfunction function, void **parameters, void **extra, bool per_thread)
{
    if (!c || (c->attribute_count && !c->attributes))
        return CUDA_ERROR_INVALID_VALUE;
    struct sim_work work;
    work.kind = WORK_KERNEL;
    work.kernel = (struct sim_kernel){function, {c->grid_x, c->grid_y, c->grid_z}, {c->block_x, c->block_y, c->block_z}, c->shared_bytes,
                                      false, parameters, extra};
    const CUlaunchAttribute *attributes = c->attributes;
    for (unsigned i = 0; i < c->attribute_count; i++)
        if (attributes[i].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            work.kernel.cooperative = attributes[i].value.cooperative != 0;
    return run(&work, per_thread ? sim_per_thread(c->stream) : c->stream);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    return launch_config(config, function, parameters, extra, false);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    return launch_config(config, function, parameters, extra, true);
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
    *grid = (int)(best_blocks * device->multiprocessors);
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
