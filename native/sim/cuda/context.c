/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts: the primary one of each device, explicit ones, and each thread's stack of current ones.
 *
 * Invariant: a live context keeps its device's account retained; its device memory goes with it.
 */
#include <string.h>

#include "driver.h"

#define STACK_MAX 64

/* `current` is what everyone asks for all the time; the others below it lie in the stack. */
static _Thread_local CUcontext current __attribute__((tls_model("initial-exec")));
static _Thread_local CUcontext stack[STACK_MAX];
static _Thread_local int depth;
static uint64_t next_id = 1;

CUcontext sim_context_current(void)
{
    return current;
}

static void push(CUcontext context)
{
    stack[depth++] = context;
    current = context;
}

static CUcontext pop(void)
{
    CUcontext popped = stack[--depth];
    current = depth ? stack[depth - 1] : NULL;
    return popped;
}

int sim_context_account(CUcontext context)
{
    return sim_visible_at(context->device)->account;
}

static CUresult make(int device, unsigned flags, CUcontext shares, CUcontext *out)
{
    static const size_t limits[SIM_LIMITS] = {1024, 1 << 20, 8 << 20, 2, 2048, 64};
    struct sim_visible *visible = sim_visible_at(device);
    if (sim_visible_account(visible) < 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (sim_account_retain(visible->account))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUcontext context = sim_object_new(MARK_CONTEXT, sizeof *context);
    if (context)
        context->heap = shares ? shares->heap : sim_heap_new(device, context, NULL);
    if (!context || !context->heap) {
        if (context)
            sim_object_free(context);
        sim_account_release(visible->account);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    context->device = device;
    context->flags = flags;
    context->id = next_id++;
    context->multiprocessors = visible->multiprocessors;
    context->part = -1;
    context->shares = shares;
    context->legacy = (struct sim_stream){.mark = MARK_STREAM, .context = context, .lane = SIM_LANE_COMPUTE};
    memcpy(context->limits, limits, sizeof limits);
    *out = context;
    return CUDA_SUCCESS;
}

static void destroy(CUcontext context)
{
    int account = sim_context_account(context);
    sim_gate_drop(context);
    sim_modules_drop(context);
    context->legacy.mark = 0;
    if (!context->shares) {
        sim_memory_drop(context);
        sim_heap_delete(context->heap);
    }
    sim_account_release(account);
    sim_object_free(context);
}

CUresult sim_context_make_part(struct sim_visible *visible, unsigned lane, unsigned multiprocessors, CUcontext *out)
{
    CUcontext primary = visible->primary;
    CUresult made = make(primary->device, primary->flags, primary, out);
    if (made != CUDA_SUCCESS)
        return made;
    (*out)->part = (int)lane;
    (*out)->multiprocessors = multiprocessors;
    (*out)->legacy.lane = lane;
    return CUDA_SUCCESS;
}

void sim_context_forget(void)
{
    pop();
}

void sim_context_end_part(CUcontext context)
{
    destroy(context);
}

/* --- The primary context ---------------------------------------------------------------------------------------------------- */

CUresult sim_primary_retain(int device)
{
    struct sim_visible *at = sim_visible_at(device);
    if (!at)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!at->primary) {
        CUresult made = make(device, at->primary_flags, NULL, &at->primary);
        if (made != CUDA_SUCCESS)
            return made;
        at->primary->primary = true;
    }
    at->primary_references++;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    if (!context)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    CUresult retained = sim_primary_retain(device);
    if (retained == CUDA_SUCCESS)
        *context = sim_visible_at(device)->primary;
    return sim_driver_leave(retained);
}

static void drop_primary(struct sim_visible *at)
{
    CUcontext primary = at->primary;
    sim_greens_drop(primary->device);
    at->primary = NULL;
    at->primary_references = 0;
    destroy(primary);
}

void sim_primary_release(struct sim_visible *visible)
{
    if (visible->primary && !--visible->primary_references)
        drop_primary(visible);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    SIM_ENTER();
    struct sim_visible *at = sim_visible_at(device);
    if (!at)
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    if (!at->primary)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    sim_primary_release(at);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2);

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    SIM_ENTER();
    struct sim_visible *at = sim_visible_at(device);
    if (at && at->primary)
        drop_primary(at);
    return sim_driver_leave(at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}
SIM_SAME(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2);

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags)
{
    SIM_ENTER();
    struct sim_visible *at = sim_visible_at(device);
    if (at) {
        at->primary_flags = flags;
        if (at->primary)
            at->primary->flags = flags;
    }
    return sim_driver_leave(at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}
SIM_SAME(cuDevicePrimaryCtxSetFlags, cuDevicePrimaryCtxSetFlags_v2);

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    SIM_ENTER();
    struct sim_visible *at = sim_visible_at(device);
    if (at && flags)
        *flags = at->primary_flags;
    if (at && active)
        *active = at->primary != NULL;
    return sim_driver_leave(at ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE);
}

/* --- Explicit contexts -------------------------------------------------------------------------------------------------------- */

CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    if (!context)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    if (!sim_visible_at(device))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    if (depth == STACK_MAX)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    CUresult made = make(device, flags, NULL, context);
    if (made == CUDA_SUCCESS)
        push(*context);
    return sim_driver_leave(made);
}

CUresult cuCtxCreate_v3(CUcontext *context, void *affinity, int count, unsigned flags, CUdevice device)
{
    (void)affinity;
    return count ? CUDA_ERROR_NOT_SUPPORTED : cuCtxCreate_v2(context, flags, device);
}

CUresult cuCtxCreate_v4(CUcontext *context, void *parameters, unsigned flags, CUdevice device)
{
    return parameters ? CUDA_ERROR_NOT_SUPPORTED : cuCtxCreate_v2(context, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    SIM_ENTER();
    if (!sim_marked(context, MARK_CONTEXT) || context->primary || context->shares)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (sim_context_current() == context)
        pop();
    destroy(context);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuCtxDestroy, cuCtxDestroy_v2);

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    SIM_ENTER();
    if (!sim_marked(context, MARK_CONTEXT) || depth == STACK_MAX)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    push(context);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuCtxPushCurrent, cuCtxPushCurrent_v2);

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    SIM_ENTER();
    if (!depth)
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    CUcontext popped = pop();
    if (context)
        *context = popped;
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuCtxPopCurrent, cuCtxPopCurrent_v2);

CUresult cuCtxSetCurrent(CUcontext context)
{
    SIM_ENTER();
    if (context && !sim_marked(context, MARK_CONTEXT))
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (depth)
        pop();
    if (context)
        push(context);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    if (!context)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult ready = sim_driver_ready();
    if (ready == CUDA_SUCCESS)
        *context = current;
    return ready;
}

/* The context asked about: the given one, or the current one for NULL. Enters the driver when it succeeds. */
static CUresult enter_context(CUcontext *context)
{
    SIM_ENTER();
    if (!*context)
        *context = sim_context_current();
    if (!*context || !sim_marked(*context, MARK_CONTEXT))
        return sim_driver_leave(*context ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_CONTEXT);
    return CUDA_SUCCESS;
}
#define ENTER_CONTEXT(context, valid)                                                                                                      \
    CUresult entered = (valid) ? enter_context(&(context)) : CUDA_ERROR_INVALID_VALUE;                                                     \
    if (entered != CUDA_SUCCESS)                                                                                                           \
    return entered

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context)
{
    ENTER_CONTEXT(context, device);
    *device = context->device;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxGetFlags(unsigned *flags)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, flags);
    *flags = context->flags;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxSetFlags(unsigned flags)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, true);
    context->flags = flags;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetId(CUcontext context, unsigned long long *id)
{
    ENTER_CONTEXT(context, id);
    *id = context->id;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned *version)
{
    ENTER_CONTEXT(context, version);
    *version = 3020;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxSynchronize_v2(CUcontext context)
{
    ENTER_CONTEXT(context, true);
    CUresult permitted = sim_capture_permits_context(context);
    if (permitted != CUDA_SUCCESS)
        return sim_driver_leave(permitted);
    sim_gate_wait(context, NULL);
    int account = sim_context_account(context);
    struct sim_position newest = context->newest;
    sim_driver_leave(CUDA_SUCCESS);
    sim_position_wait(account, &newest);
    return sim_pools_settle();
}

CUresult cuCtxSynchronize(void)
{
    return cuCtxSynchronize_v2(NULL);
}

CUresult cuCtxSetLimit(int limit, size_t value)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, true);
    if (limit < 0 || limit >= SIM_LIMITS)
        return sim_driver_leave(CUDA_ERROR_UNSUPPORTED_LIMIT);
    context->limits[limit] = value;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetLimit(size_t *value, int limit)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, value);
    if (limit < 0 || limit >= SIM_LIMITS)
        return sim_driver_leave(CUDA_ERROR_UNSUPPORTED_LIMIT);
    *value = context->limits[limit];
    return sim_driver_leave(CUDA_SUCCESS);
}

static CUresult get_config(int *config, bool shared)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, config);
    *config = (int)(shared ? context->shared_config : context->cache_config);
    return sim_driver_leave(CUDA_SUCCESS);
}

static CUresult set_config(int config, bool shared)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, config >= 0 && config <= 3);
    *(shared ? &context->shared_config : &context->cache_config) = (unsigned)config;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCacheConfig(int *config)
{
    return get_config(config, false);
}
CUresult cuCtxSetCacheConfig(int config)
{
    return set_config(config, false);
}
CUresult cuCtxGetSharedMemConfig(int *config)
{
    return get_config(config, true);
}
CUresult cuCtxSetSharedMemConfig(int config)
{
    return set_config(config, true);
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    CUcontext context = NULL;
    ENTER_CONTEXT(context, true);
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return sim_driver_leave(CUDA_SUCCESS);
}
