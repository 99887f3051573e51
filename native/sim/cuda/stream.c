/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams: what they are, and waiting for them.
 */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static _Thread_local struct {
    CUcontext context;
    uint64_t context_id;
    CUstream stream;
} thread_streams[8];
static _Thread_local unsigned thread_next;
static uint64_t next_id = 8;

void sim_stream_place(CUstream stream)
{
    const struct sim_context *context = stream->context;
    int shared = stream->priority < 0 ? SIM_LANE_URGENT : SIM_LANE_COMPUTE;
    stream->lane = (unsigned)(context->part >= 0 ? context->part : shared);
    stream->id = next_id++;
}

/* The default stream of this thread in `context`, made on first use. */
static CUstream thread_stream(CUcontext context)
{
    for (unsigned i = 0; i < 8; i++)
        if (thread_streams[i].context == context && thread_streams[i].context_id == context->id)
            return thread_streams[i].stream;
    CUstream stream = sim_object_new(MARK_STREAM, sizeof *stream);
    if (!stream)
        return NULL;
    stream->context = context;
    sim_stream_place(stream);
    unsigned slot = thread_next++ % 8;
    thread_streams[slot].context = context;
    thread_streams[slot].context_id = context->id;
    thread_streams[slot].stream = stream;
    return stream;
}

CUresult sim_stream_find(CUstream handle, CUstream *stream)
{
    if ((uintptr_t)handle > 2) {
        if (!sim_marked(handle, MARK_STREAM) || !sim_marked(handle->context, MARK_CONTEXT))
            return CUDA_ERROR_INVALID_HANDLE;
        *stream = handle;
        return CUDA_SUCCESS;
    }
    CUcontext context = sim_context_current();
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!sim_marked(context, MARK_CONTEXT))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *stream = handle == CU_STREAM_PER_THREAD ? thread_stream(context) : &context->legacy;
    return *stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* What the stream's newest work is over with. */
static const struct sim_position *ends_at(const struct sim_stream *stream, struct sim_position *joined)
{
    return stream == &stream->context->legacy ? sim_stream_after(stream, joined) : &stream->position;
}

void sim_stream_finish(CUstream stream)
{
    struct sim_position joined;
    CUcontext context = stream->context;
    if (sim_gate_needed(stream, &(struct sim_work){.kind = WORK_EMPTY}))
        sim_gate_wait(context, stream);
    struct sim_position position = *ends_at(stream, &joined);
    int account = sim_context_account(context);
    if (sim_position_passed(account, &position))
        return;
    sim_driver_leave(CUDA_SUCCESS);
    sim_position_wait(account, &position);
    sim_driver_relock();
}

#define ENTER_STREAM(valid)                                                                                                                \
    SIM_ENTER();                                                                                                                           \
    CUstream at;                                                                                                                           \
    CUresult found = (valid) ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;                                                    \
    if (found != CUDA_SUCCESS)                                                                                                             \
    return sim_driver_leave(found)

CUresult sim_stream_make(CUcontext context, unsigned flags, int priority, CUstream *stream)
{
    if (!stream || flags > CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    CUstream made = sim_object_new(MARK_STREAM, sizeof *made);
    if (!made)
        return CUDA_ERROR_OUT_OF_MEMORY;
    made->context = context;
    made->flags = flags;
    made->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    sim_stream_place(made);
    *stream = made;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    SIM_ENTER();
    CUcontext context = sim_context_current();
    bool valid = context && sim_marked(context, MARK_CONTEXT);
    return sim_driver_leave(valid ? sim_stream_make(context, flags, priority, stream) : CUDA_ERROR_INVALID_CONTEXT);
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    return cuStreamCreateWithPriority(stream, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    SIM_ENTER();
    if (!sim_marked(stream, MARK_STREAM))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    sim_capture_leave(stream);
    if (stream->deferred)
        stream->mark = MARK_STREAM_CLOSING; /* what it was given is still done */
    else
        sim_object_free(stream);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuStreamDestroy, cuStreamDestroy_v2);

#define STREAM_GETTER(call, type, name, value)                                                                                             \
    CUresult call(CUstream stream, type *name)                                                                                             \
    {                                                                                                                                      \
        ENTER_STREAM(name);                                                                                                                \
        *name = value;                                                                                                                     \
        return sim_driver_leave(CUDA_SUCCESS);                                                                                             \
    }                                                                                                                                      \
    CUresult call##_ptsz(CUstream stream, type *name)                                                                                      \
    {                                                                                                                                      \
        return call(sim_per_thread(stream), name);                                                                                         \
    }

STREAM_GETTER(cuStreamGetPriority, int, priority, at->priority)
STREAM_GETTER(cuStreamGetFlags, unsigned, flags, at->flags)
STREAM_GETTER(cuStreamGetId, unsigned long long, id, at->id)
STREAM_GETTER(cuStreamGetCtx, CUcontext, context, at->context)
STREAM_GETTER(cuStreamGetDevice, CUdevice, device, at->context->device)

/* Of a green context's stream the context is no context of the program's, and the other way round. */
CUresult cuStreamGetCtx_v2(CUstream stream, CUcontext *context, CUgreenCtx *green)
{
    ENTER_STREAM(context && green);
    *green = at->context->green;
    *context = *green ? NULL : at->context;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext *context, CUgreenCtx *green)
{
    return cuStreamGetCtx_v2(sim_per_thread(stream), context, green);
}

CUresult cuStreamQuery(CUstream stream)
{
    ENTER_STREAM(true);
    struct sim_position joined;
    CUresult permitted = sim_capture_permits(at, true);
    if (permitted != CUDA_SUCCESS)
        return sim_driver_leave(permitted);
    bool done = !sim_gate_needed(at, &(struct sim_work){.kind = WORK_EMPTY}) &&
                sim_position_done(sim_context_account(at->context), ends_at(at, &joined), NULL);
    return sim_driver_leave(done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

CUresult cuStreamQuery_ptsz(CUstream stream)
{
    return cuStreamQuery(sim_per_thread(stream));
}

CUresult cuStreamSynchronize(CUstream stream)
{
    ENTER_STREAM(true);
    CUresult permitted = sim_capture_permits(at, true);
    if (permitted != CUDA_SUCCESS)
        return sim_driver_leave(permitted);
    sim_stream_finish(at);
    sim_heaps_settle(false);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
    return cuStreamSynchronize(sim_per_thread(stream));
}
