/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams and events. A stream is the number of its newest launch on the process's channel; an event is such a number and
 * the time it was recorded. A channel runs in order of submission, so work inside one device never waits for the wrong
 * thing; waiting for another device's event is done by the caller's thread.
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
    stream->id = next_id++;
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

/* Number of the launch after which everything so far in `stream` is done. */
static uint64_t position(const struct sim_stream *stream)
{
    const struct sim_context *context = stream->context;
    return stream == &context->legacy ? context->newest_blocking : stream->last;
}

void sim_stream_finish(CUstream stream)
{
    uint64_t number = position(stream);
    int account = sim_context_account(stream->context);
    sim_driver_leave(CUDA_SUCCESS);
    sim_launch_wait(account, number);
    sim_driver_enter();
}

#define ENTER_STREAM(valid)                                                                                                                \
    SIM_ENTER();                                                                                                                           \
    CUstream at;                                                                                                                           \
    CUresult found = (valid) ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;                                                    \
    if (found != CUDA_SUCCESS)                                                                                                             \
    return sim_driver_leave(found)

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    SIM_ENTER();
    CUcontext context = sim_context_current();
    if (!context || !sim_marked(context, MARK_CONTEXT))
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!stream || flags > CU_STREAM_NON_BLOCKING)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUstream made = sim_object_new(MARK_STREAM, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    made->context = context;
    made->flags = flags;
    made->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    made->id = next_id++;
    *stream = made;
    return sim_driver_leave(CUDA_SUCCESS);
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
STREAM_GETTER(cuStreamIsCapturing, int, status, 0)

CUresult cuStreamGetCtx_v2(CUstream stream, CUcontext *context, void **green)
{
    if (green)
        *green = NULL;
    return cuStreamGetCtx(stream, context);
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext *context, void **green)
{
    return cuStreamGetCtx_v2(sim_per_thread(stream), context, green);
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    static _Thread_local int current;
    if (!mode || *mode < 0 || *mode > 2)
        return CUDA_ERROR_INVALID_VALUE;
    int before = current;
    current = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream stream)
{
    ENTER_STREAM(true);
    bool done = sim_launch_done(sim_context_account(at->context), position(at), NULL);
    return sim_driver_leave(done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

CUresult cuStreamQuery_ptsz(CUstream stream)
{
    return cuStreamQuery(sim_per_thread(stream));
}

CUresult cuStreamSynchronize(CUstream stream)
{
    ENTER_STREAM(true);
    sim_stream_finish(at);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
    return cuStreamSynchronize(sim_per_thread(stream));
}

/* --- Events -------------------------------------------------------------------------------------------------------------------- */

static struct sim_event *unsettled;

static void unlink_event(CUevent event)
{
    if (event->previous)
        event->previous->next = event->next;
    else if (unsettled == event)
        unsettled = event->next;
    if (event->next)
        event->next->previous = event->previous;
    event->next = event->previous = NULL;
}

/* Learn when `event` happened, if it has. */
static bool settle(CUevent event)
{
    uint64_t end_ns;
    if (!event->recorded || event->end_ns)
        return true;
    if (!sim_launch_done(event->account, event->after, &end_ns))
        return false;
    event->end_ns = end_ns > event->record_ns ? end_ns : event->record_ns;
    unlink_event(event);
    return true;
}

/* Called every so many launches, before the channel forgets when old ones ended. */
void sim_event_settle(int account, uint64_t newest)
{
    for (CUevent event = unsettled, next; event; event = next) {
        next = event->next;
        if (event->account == account && event->after + SIM_QUEUE_DEPTH <= newest)
            settle(event);
    }
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    SIM_ENTER();
    CUcontext context = sim_context_current();
    if (!context || !sim_marked(context, MARK_CONTEXT))
        return sim_driver_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!event || flags > 7 || ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING)))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (flags & CU_EVENT_INTERPROCESS)
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    CUevent made = sim_object_new(MARK_EVENT, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    made->context = context;
    made->flags = flags;
    made->account = sim_context_account(context);
    *event = made;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuEventDestroy_v2(CUevent event)
{
    SIM_ENTER();
    if (!sim_marked(event, MARK_EVENT))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    unlink_event(event);
    sim_object_free(event);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuEventDestroy, cuEventDestroy_v2);

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    ENTER_STREAM(true);
    if (!sim_marked(event, MARK_EVENT) || event->context != at->context)
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    unlink_event(event);
    event->recorded = true;
    event->after = position(at);
    event->record_ns = sim_now_ns();
    event->end_ns = 0;
    event->next = unsettled;
    if (unsettled)
        unsettled->previous = event;
    unsettled = event;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuEventRecord_ptsz(CUevent event, CUstream stream)
{
    return cuEventRecord(event, sim_per_thread(stream));
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags)
{
    return flags > 1 ? CUDA_ERROR_INVALID_VALUE : cuEventRecord(event, stream);
}

CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned flags)
{
    return cuEventRecordWithFlags(event, sim_per_thread(stream), flags);
}

CUresult cuEventQuery(CUevent event)
{
    SIM_ENTER();
    if (!sim_marked(event, MARK_EVENT))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    return sim_driver_leave(settle(event) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

CUresult cuEventSynchronize(CUevent event)
{
    SIM_ENTER();
    if (!sim_marked(event, MARK_EVENT))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    bool wait = !settle(event);
    uint64_t after = event->after;
    int account = event->account;
    sim_driver_leave(CUDA_SUCCESS);
    if (wait)
        sim_launch_wait(account, after);
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    SIM_ENTER();
    if (!milliseconds)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (!sim_marked(start, MARK_EVENT) || !sim_marked(end, MARK_EVENT) || !start->recorded || !end->recorded ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!settle(start) || !settle(end))
        return sim_driver_leave(CUDA_ERROR_NOT_READY);
    *milliseconds = (float)((double)((int64_t)(end->end_ns - start->end_ns)) / 1e6);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuEventElapsedTime_v2, cuEventElapsedTime);

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    ENTER_STREAM(flags <= 1);
    if (!sim_marked(event, MARK_EVENT))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    int account = event->account;
    uint64_t after = event->after;
    if (!event->recorded || settle(event))
        return sim_driver_leave(CUDA_SUCCESS);
    bool same = account == sim_context_account(at->context);
    if (same && at->last < after)
        at->last = after;
    if (same && !(at->flags & CU_STREAM_NON_BLOCKING) && at->context->newest_blocking < after)
        at->context->newest_blocking = after;
    sim_driver_leave(CUDA_SUCCESS);
    if (!same)
        sim_launch_wait(account, after);
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned flags)
{
    return cuStreamWaitEvent(sim_per_thread(stream), event, flags);
}
