/* SPDX-License-Identifier: Apache-2.0
 *
 * One kernel on several devices by one call, each part in a stream of its device. All parts are checked before the first is started, so that a refused launch
 * started nothing. The parts do not wait for each other: what the flags switch off is not modelled.
 */
#include "driver.h"

#define FLAGS_ALL 3U /* no synchronisation before, none after */

static struct sim_work part_work(const CUDA_LAUNCH_PARAMS *part)
{
    struct sim_work work;
    work.kind = WORK_KERNEL;
    work.kernel = (struct sim_kernel){part->function,
                                      {part->grid_x, part->grid_y, part->grid_z},
                                      {part->block_x, part->block_y, part->block_z},
                                      part->shared_bytes,
                                      true,
                                      part->parameters,
                                      NULL};
    return work;
}

static bool same_shape(const CUDA_LAUNCH_PARAMS *a, const CUDA_LAUNCH_PARAMS *b)
{
    return a->grid_x == b->grid_x && a->grid_y == b->grid_y && a->grid_z == b->grid_z && a->block_x == b->block_x && a->block_y == b->block_y &&
           a->block_z == b->block_z && a->shared_bytes == b->shared_bytes;
}

/* Parts are for different devices, all of one shape, each in a stream that was created. */
static CUresult check_part(const CUDA_LAUNCH_PARAMS *parts, unsigned index, CUstream *streams)
{
    if ((uintptr_t)parts[index].stream <= 2 || !same_shape(&parts[0], &parts[index]))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = sim_stream_find(parts[index].stream, &streams[index]);
    if (result != CUDA_SUCCESS)
        return result;
    for (unsigned i = 0; i < index; i++)
        if (streams[i]->context->device == streams[index]->context->device)
            return CUDA_ERROR_INVALID_VALUE;
    struct sim_work work = part_work(&parts[index]);
    return sim_work_check(streams[index], &work);
}

CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *parts, unsigned count, unsigned flags)
{
    CUstream streams[SIM_DEVICES_MAX];
    SIM_ENTER();
    if (!parts || !count || count > (unsigned)sim_visible_count() || (flags & ~FLAGS_ALL))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; i < count && result == CUDA_SUCCESS; i++)
        result = check_part(parts, i, streams);
    for (unsigned i = 0; i < count && result == CUDA_SUCCESS; i++) {
        struct sim_work work = part_work(&parts[i]);
        result = sim_stream_submit(streams[i], &work);
    }
    return sim_driver_leave(result);
}
