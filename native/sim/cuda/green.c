/* SPDX-License-Identifier: Apache-2.0
 *
 * Green contexts: some of a device's multiprocessors, split off by count, and contexts whose kernels run on these only. Such a
 * context has the memory of the primary one, which it keeps alive.
 *
 * Multiprocessors are given in the order of their numbers, so that every process splits a device alike. Within a process,
 * parts run side by side; those of several processes do where the processes do.
 */
#include "driver.h"

#include <string.h>

#define MAGIC 0x4d494341u
#define SPLIT_IGNORES_COSCHEDULING 1u
#define SPLIT_FLAGS 3u
#define RESOURCES_MAX 64

/* What a green context is made of. */
struct sim_resource_set {
    uint32_t mark;
    int device;
    unsigned count; /* multiprocessors */
    CUdevResource first;
};

struct sim_green {
    uint32_t mark;
    int device;
    CUcontext context;
    CUdevResource resource; /* what it has, as one */
    struct sim_green *next;
};

static struct sim_green *greens;

/* The smallest part and the steps above it, by compute capability. */
static void partition_of(const struct sim_description *description, bool ignore, unsigned *least, unsigned *step)
{
    unsigned major = description->capability_major;
    *least = major >= 9 ? 8 : major == 8 ? 4 : major == 7 ? 2 : 1;
    *step = major >= 9 ? 8 : major >= 7 ? 2 : 1;
    if (ignore && major >= 9)
        *least = *step = 2;
}

static CUdevResource part(int device, unsigned first, unsigned count, bool ignore)
{
    CUdevResource resource = {.type = CU_DEV_RESOURCE_SM, .magic = MAGIC, .device = (uint32_t)device, .first = first, .count = count};
    partition_of(sim_visible_description(sim_visible_at(device)), ignore, &resource.least, &resource.step);
    return resource;
}

static CUresult check_resource(const CUdevResource *resource)
{
    if (resource->type != CU_DEV_RESOURCE_SM)
        return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    const struct sim_visible *device = resource->magic == MAGIC ? sim_visible_at((int)resource->device) : NULL;
    bool inside = device && resource->count <= device->multiprocessors && resource->first <= device->multiprocessors - resource->count;
    return inside ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetDevResource(CUdevice device, CUdevResource *resource, int type)
{
    SIM_ENTER();
    const struct sim_visible *at = sim_visible_at(device);
    if (!at || !resource)
        return sim_driver_leave(at ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_DEVICE);
    if (type != CU_DEV_RESOURCE_SM)
        return sim_driver_leave(CUDA_ERROR_INVALID_RESOURCE_TYPE);
    *resource = part(device, 0, at->multiprocessors, false);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuDevSmResourceSplitByCount(CUdevResource *groups, unsigned *count, const CUdevResource *input, CUdevResource *rest, unsigned flags,
                                     unsigned least_count)
{
    SIM_ENTER();
    if (!count || !input || flags & ~SPLIT_FLAGS)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult checked = check_resource(input);
    if (checked != CUDA_SUCCESS)
        return sim_driver_leave(checked);
    int device = (int)input->device;
    bool ignore = flags & SPLIT_IGNORES_COSCHEDULING;
    unsigned size, step;
    partition_of(sim_visible_description(sim_visible_at(device)), ignore, &size, &step);
    if (least_count > input->count || size > input->count)
        return sim_driver_leave(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
    if (least_count > size)
        size = (least_count + step - 1) / step * step;
    unsigned most = input->count / size, made = groups && *count < most ? *count : most;
    for (unsigned i = 0; groups && i < made; i++)
        groups[i] = part(device, input->first + i * size, size, ignore);
    if (rest) {
        *rest = part(device, input->first + made * size, input->count - made * size, ignore);
        rest->type = rest->count ? CU_DEV_RESOURCE_SM : 0;
    }
    *count = made;
    return sim_driver_leave(CUDA_SUCCESS);
}

static bool overlap(const CUdevResource *a, const CUdevResource *b)
{
    return a->first < b->first + b->count && b->first < a->first + a->count;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *out, CUdevResource *resources, unsigned count)
{
    SIM_ENTER();
    if (!out || !resources || !count || count > RESOURCES_MAX)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    unsigned multiprocessors = 0;
    for (unsigned i = 0; i < count; i++) {
        CUresult checked = check_resource(&resources[i]);
        if (checked == CUDA_SUCCESS && resources[i].device != resources[0].device)
            checked = CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
        for (unsigned j = 0; j < i && checked == CUDA_SUCCESS; j++)
            if (overlap(&resources[i], &resources[j]))
                checked = CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
        if (checked != CUDA_SUCCESS)
            return sim_driver_leave(checked);
        multiprocessors += resources[i].count;
    }
    CUdevResourceDesc made = sim_object_new(MARK_RESOURCES, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    made->device = (int)resources[0].device;
    made->count = multiprocessors;
    made->first = resources[0];
    *out = made;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Their life ------------------------------------------------------------------------------------------------------------------- */

static void end(struct sim_green *green, bool with_reference)
{
    struct sim_green **at = &greens;
    struct sim_visible *visible = sim_visible_at(green->device);
    unsigned lane = (unsigned)green->context->part;
    int account = sim_context_account(green->context);
    while (*at != green)
        at = &(*at)->next;
    *at = green->next;
    sim_context_end_part(green->context);
    sim_part_close(account, lane);
    sim_object_free(green);
    if (with_reference)
        sim_primary_release(visible);
}

void sim_greens_drop(int device)
{
    for (struct sim_green *green = greens, *next; green; green = next) {
        next = green->next;
        if (green->device == device)
            end(green, false);
    }
}

CUresult cuGreenCtxCreate(CUgreenCtx *out, CUdevResourceDesc description, CUdevice device, unsigned flags)
{
    SIM_ENTER();
    struct sim_visible *visible = sim_visible_at(device);
    if (!out || flags != CU_GREEN_CTX_DEFAULT_STREAM || !sim_marked(description, MARK_RESOURCES) || description->device != device)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = sim_primary_retain(device);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    struct sim_green *green = sim_object_new(MARK_GREEN, sizeof *green);
    int lane = green ? sim_part_open(visible->account) : -1;
    result = lane < 0 ? CUDA_ERROR_OUT_OF_MEMORY : sim_context_make_part(visible, (unsigned)lane, description->count, &green->context);
    if (result != CUDA_SUCCESS) {
        if (lane >= 0)
            sim_part_close(visible->account, (unsigned)lane);
        if (green)
            sim_object_free(green);
        sim_primary_release(visible);
        return sim_driver_leave(result);
    }
    green->device = device;
    green->context->green = green;
    green->resource = description->first;
    green->resource.count = description->count;
    green->next = greens;
    greens = green;
    *out = green;
    return sim_driver_leave(CUDA_SUCCESS);
}

#define ENTER_GREEN(green, valid)                                                                                                          \
    SIM_ENTER();                                                                                                                           \
    if (!sim_marked(green, MARK_GREEN) || !(valid))                                                                                        \
    return sim_driver_leave(CUDA_ERROR_INVALID_VALUE)

CUresult cuGreenCtxDestroy(CUgreenCtx green)
{
    ENTER_GREEN(green, true);
    if (sim_context_current() == green->context)
        sim_context_forget();
    sim_gate_wait(green->context, NULL);
    end(green, true);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxFromGreenCtx(CUcontext *context, CUgreenCtx green)
{
    ENTER_GREEN(green, context);
    *context = green->context;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuGreenCtxGetId(CUgreenCtx green, unsigned long long *id)
{
    ENTER_GREEN(green, id);
    *id = green->context->id;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx green, CUdevResource *resource, int type)
{
    ENTER_GREEN(green, resource);
    if (type == CU_DEV_RESOURCE_SM)
        *resource = green->resource;
    return sim_driver_leave(type == CU_DEV_RESOURCE_SM ? CUDA_SUCCESS : CUDA_ERROR_INVALID_RESOURCE_TYPE);
}

CUresult cuCtxGetDevResource(CUcontext context, CUdevResource *resource, int type)
{
    SIM_ENTER();
    if (!sim_marked(context, MARK_CONTEXT) || !resource)
        return sim_driver_leave(resource ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_VALUE);
    CUgreenCtx green = context->green;
    int device = context->device;
    sim_driver_leave(CUDA_SUCCESS);
    return green ? cuGreenCtxGetDevResource(green, resource, type) : cuDeviceGetDevResource(device, resource, type);
}

/* --- Streams and events ----------------------------------------------------------------------------------------------------------------- */

CUresult cuGreenCtxStreamCreate(CUstream *stream, CUgreenCtx green, unsigned flags, int priority)
{
    ENTER_GREEN(green, flags == CU_STREAM_NON_BLOCKING);
    return sim_driver_leave(sim_stream_make(green->context, flags, priority, stream));
}

CUresult cuStreamGetGreenCtx(CUstream stream, CUgreenCtx *green)
{
    CUstream at;
    SIM_ENTER();
    CUresult found = green ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;
    if (found == CUDA_SUCCESS)
        *green = at->context->green;
    return sim_driver_leave(found);
}

/* All that the context was given is over with the event. */
static CUresult record(CUcontext context, CUevent event)
{
    CUresult permitted = sim_capture_permits_context(context);
    if (permitted != CUDA_SUCCESS)
        return permitted;
    if (!sim_marked(event, MARK_EVENT) || event->context->device != context->device)
        return CUDA_ERROR_INVALID_HANDLE;
    sim_gate_wait(context, NULL);
    sim_capture_forget(event);
    sim_event_record(event, &context->newest);
    return CUDA_SUCCESS;
}

CUresult cuCtxRecordEvent(CUcontext context, CUevent event)
{
    SIM_ENTER();
    return sim_driver_leave(sim_marked(context, MARK_CONTEXT) ? record(context, event) : CUDA_ERROR_INVALID_CONTEXT);
}

CUresult cuGreenCtxRecordEvent(CUgreenCtx green, CUevent event)
{
    ENTER_GREEN(green, true);
    return sim_driver_leave(record(green->context, event));
}
