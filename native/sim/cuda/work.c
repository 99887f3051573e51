/* SPDX-License-Identifier: Apache-2.0
 *
 * Work on its way from a call to the device: checked, put behind what its stream has to wait for, and started.
 *
 * A stream knows where its newest order ends (a position in the process's lanes). The legacy stream also waits for every
 * blocking stream of its context, and they for it.
 */
#include "driver.h"

const struct sim_position *sim_stream_after(const struct sim_stream *stream, struct sim_position *joined)
{
    const struct sim_context *context = stream->context;
    if (stream == &context->legacy) {
        if (!context->blocking.lanes)
            return &stream->position;
        *joined = context->blocking;
        sim_position_join(joined, &stream->position);
        return joined;
    }
    if (stream->flags & CU_STREAM_NON_BLOCKING || !context->legacy.position.lanes)
        return &stream->position;
    *joined = context->legacy.position;
    sim_position_join(joined, &stream->position);
    return joined;
}

void sim_stream_reach(CUstream stream, const struct sim_position *reached)
{
    CUcontext context = stream->context;
    stream->position.lanes = 0; /* the newest order waited for all of these */
    sim_position_join(&stream->position, reached);
    sim_position_join(&context->newest, reached);
    if (!(stream->flags & CU_STREAM_NON_BLOCKING))
        sim_position_join(&context->blocking, reached);
}

#define SETTLE_EVERY 512 /* orders: events have to learn their time before the lane forgets it */

CUresult sim_order(CUcontext context, unsigned lane, uint64_t cost_ns, unsigned multiprocessors, const struct sim_position *after,
                   struct sim_position *reached)
{
    int account = sim_context_account(context);
    uint64_t number;
    while (!(number = sim_order_try(account, lane, cost_ns, multiprocessors, after))) { /* others may go on meanwhile */
        sim_driver_leave(CUDA_SUCCESS);
        sim_order_wait_room(account, lane);
        sim_driver_relock();
        if (!sim_marked(context, MARK_CONTEXT))
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    sim_position_add(reached, lane, number);
    if (number % SETTLE_EVERY == 0)
        sim_events_settle(account, reached);
    return CUDA_SUCCESS;
}

CUresult sim_work_check(CUstream stream, const struct sim_work *work)
{
    switch (work->kind) {
    case WORK_KERNEL:
        return sim_kernel_check(stream, &work->kernel);
    case WORK_COPY:
        return sim_copy_check(&work->copy);
    case WORK_FILL:
        return sim_fill_check(&work->fill);
    case WORK_HOST:
        return work->host.function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case WORK_CALLBACK:
        return work->callback.function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default:
        return CUDA_SUCCESS;
    }
}

CUresult sim_work_start(CUstream stream, const struct sim_work *work, const struct sim_position *after, struct sim_position *reached)
{
    switch (work->kind) {
    case WORK_KERNEL:
        return sim_kernel_start(stream, &work->kernel, after, reached);
    case WORK_COPY:
        return sim_copy_start(stream, &work->copy, after, reached);
    case WORK_FILL:
        return sim_fill_start(stream, &work->fill, after, reached);
    case WORK_RECORD:
        sim_event_record(work->record.event, after);
        break;
    case WORK_WAIT: { /* an event of another device is over by now: the gate saw to it */
        const struct sim_event *pending = work->wait.pending;
        if ((pending ? pending->account : work->wait.account) == sim_context_account(stream->context))
            sim_position_join(reached, pending ? &pending->position : &work->wait.position);
        break;
    }
    case WORK_GIVE:
        if (sim_graph_block_give(work->give) != CUDA_SUCCESS)
            return CUDA_ERROR_INVALID_VALUE;
        break;
    default: /* the host has done its part */
        break;
    }
    sim_position_join(reached, after);
    return CUDA_SUCCESS;
}

CUresult sim_stream_submit(CUstream stream, const struct sim_work *work)
{
    struct sim_position joined, reached;
    if (__builtin_expect(sim_captures, 0)) {
        CUresult permitted = sim_capture_permits(stream, false);
        if (stream->capture || permitted != CUDA_SUCCESS)
            return stream->capture ? sim_capture_add(stream, work) : permitted;
    }
    if (sim_gate_needed(stream, work))
        return sim_gate_defer(stream, work);
    reached.lanes = 0;
    CUresult result = sim_work_start(stream, work, sim_stream_after(stream, &joined), &reached);
    if (result == CUDA_SUCCESS && work->kind != WORK_RECORD)
        sim_stream_reach(stream, &reached);
    return result;
}
