/* SPDX-License-Identifier: Apache-2.0
 *
 * Events. An event is a position in its process's lanes and the time it was recorded: it happened when the position was
 * reached, and not before it was recorded.
 */
#include <string.h>

#include "driver.h"

#define EXTERNAL 1u /* a capture takes it for a node of its own */

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

bool sim_event_settle(CUevent event)
{
    uint64_t end_ns;
    if (event->deferred)
        return false;
    if (!event->recorded || event->end_ns)
        return true;
    if (!sim_position_done(event->account, &event->position, &end_ns))
        return false;
    __atomic_store_n(&event->end_ns, end_ns > event->record_ns ? end_ns : event->record_ns, __ATOMIC_RELAXED);
    unlink_event(event);
    return true;
}

/* Called every so many orders, before a lane forgets when old ones ended. */
void sim_events_settle(int account, const struct sim_position *newest)
{
    for (CUevent event = unsettled, next; event; event = next) {
        bool old = false;
        next = event->next;
        if (event->account != account)
            continue;
        for (uint32_t rest = event->position.lanes & newest->lanes; rest; rest &= rest - 1)
            old = old || event->position.number[__builtin_ctz(rest)] + SIM_QUEUE_DEPTH <= newest->number[__builtin_ctz(rest)];
        if (old)
            sim_event_settle(event);
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
    while (event->deferred) /* deferred work names it */
        sim_gate_sleep();
    unlink_event(event);
    sim_capture_forget(event);
    sim_object_free(event);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuEventDestroy, cuEventDestroy_v2);

void sim_event_record(CUevent event, const struct sim_position *position)
{
    unlink_event(event);
    event->recorded = true;
    event->position.lanes = 0;
    sim_position_join(&event->position, position);
    event->record_ns = sim_now_ns();
    __atomic_store_n(&event->end_ns, 0, __ATOMIC_RELAXED);
    event->next = unsettled;
    if (unsettled)
        unsettled->previous = event;
    unsettled = event;
}

static CUresult record(CUevent event, CUstream stream, bool external)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = sim_stream_find(stream, &at);
    if (result == CUDA_SUCCESS && (!sim_marked(event, MARK_EVENT) || event->context->device != at->context->device))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS) {
        struct sim_work work = {.kind = WORK_RECORD};
        work.record.event = event;
        work.record.external = external;
        if (event->capture_id)
            sim_capture_forget(event);
        result = external && !at->capture ? CUDA_ERROR_ILLEGAL_STATE : sim_stream_submit(at, &work);
    }
    return sim_driver_leave(result);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    return record(event, stream, false);
}

CUresult cuEventRecord_ptsz(CUevent event, CUstream stream)
{
    return cuEventRecord(event, sim_per_thread(stream));
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags)
{
    return flags > 1 ? CUDA_ERROR_INVALID_VALUE : record(event, stream, flags & EXTERNAL);
}

CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned flags)
{
    return cuEventRecordWithFlags(event, sim_per_thread(stream), flags);
}

/* Whether the program may ask when it happens. */
static CUresult check(CUevent event)
{
    if (!sim_marked(event, MARK_EVENT))
        return CUDA_ERROR_INVALID_HANDLE;
    return event->capture_id ? CUDA_ERROR_CAPTURED_EVENT : sim_capture_permits_unsafe();
}

CUresult cuEventQuery(CUevent event)
{
    SIM_ENTER();
    CUresult usable = check(event);
    if (usable != CUDA_SUCCESS)
        return sim_driver_leave(usable);
    return sim_driver_leave(sim_event_settle(event) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

CUresult cuEventSynchronize(CUevent event)
{
    SIM_ENTER();
    CUresult usable = check(event);
    if (usable != CUDA_SUCCESS)
        return sim_driver_leave(usable);
    while (event->deferred)
        sim_gate_sleep();
    bool wait = !sim_event_settle(event);
    struct sim_position position = event->position;
    int account = event->account;
    sim_driver_leave(CUDA_SUCCESS);
    if (wait)
        sim_position_wait(account, &position);
    return sim_pools_settle();
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    SIM_ENTER();
    if (!milliseconds)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (!sim_marked(start, MARK_EVENT) || !sim_marked(end, MARK_EVENT) || start->account != end->account ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) || !(start->recorded || start->deferred) || !(end->recorded || end->deferred))
        return sim_driver_leave(CUDA_ERROR_INVALID_HANDLE);
    if (start->capture_id || end->capture_id)
        return sim_driver_leave(CUDA_ERROR_CAPTURED_EVENT);
    if (!sim_event_settle(start) || !sim_event_settle(end))
        return sim_driver_leave(CUDA_ERROR_NOT_READY);
    *milliseconds = (float)((double)((int64_t)(end->end_ns - start->end_ns)) / 1e6);
    return sim_driver_leave(CUDA_SUCCESS);
}
SIM_SAME(cuEventElapsedTime_v2, cuEventElapsedTime);

struct sim_work sim_event_wait(CUevent event)
{
    struct sim_work work = {.kind = WORK_WAIT};
    work.wait.event = event;
    work.wait.account = event->account;
    if (event->deferred)
        work.wait.pending = event;
    else if (event->recorded)
        work.wait.position = event->position;
    return work;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = flags <= 1 ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && !sim_marked(event, MARK_EVENT))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS && event->capture_id && !(flags & EXTERNAL))
        return sim_driver_leave(sim_capture_wait(at, event));
    if (result == CUDA_SUCCESS) {
        struct sim_work work = sim_event_wait(event);
        work.wait.external = flags & EXTERNAL;
        result = work.wait.external && !at->capture ? CUDA_ERROR_ILLEGAL_STATE : sim_stream_submit(at, &work);
    }
    return sim_driver_leave(result);
}

CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned flags)
{
    return cuStreamWaitEvent(sim_per_thread(stream), event, flags);
}
