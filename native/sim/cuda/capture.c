/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream capture: calls become nodes of a graph instead of work.
 *
 * A capture begins in one stream; another takes part once it waits for an event of the capture, and must have been waited for
 * in the first by its end. What cannot be captured, or would have to wait for what is not running, is an error of its own and
 * makes the capture invalid: its graph is lost, and its end says so.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

unsigned sim_captures;

static struct sim_capture *captures;
static uint64_t next_id = 1;
static _Thread_local int thread_mode;

static uint64_t this_thread(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

static bool is_legacy(const struct sim_stream *stream)
{
    return stream == &stream->context->legacy;
}

static CUresult spoil(struct sim_capture *capture, CUresult why)
{
    capture->invalid = true;
    return why;
}

/* Spoil every capture that a stream of the context takes part in; with `blocking`, only streams that the legacy stream waits for. */
static bool spoil_context(const struct sim_context *context, bool blocking)
{
    bool any = false;
    for (struct sim_capture *capture = captures; capture; capture = capture->next)
        for (const struct sim_stream *stream = capture->streams; stream; stream = stream->next_captured)
            if (stream->context == context && !(blocking && stream->flags & CU_STREAM_NON_BLOCKING))
                any = capture->invalid = true;
    return any;
}

/* --- What others may do meanwhile ------------------------------------------------------------------------------------------------- */

CUresult sim_capture_permits(CUstream stream, bool to_wait)
{
    if (!sim_captures)
        return CUDA_SUCCESS;
    if (stream->capture)
        return to_wait ? spoil(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) : CUDA_SUCCESS;
    return is_legacy(stream) && spoil_context(stream->context, true) ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_SUCCESS;
}

CUresult sim_capture_permits_context(CUcontext context)
{
    return sim_captures && spoil_context(context, false) ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult sim_capture_permits_unsafe(void)
{
    CUresult result = CUDA_SUCCESS;
    for (struct sim_capture *capture = captures; capture && thread_mode != CU_STREAM_CAPTURE_RELAXED; capture = capture->next) {
        bool own = capture->thread == this_thread() && capture->mode != CU_STREAM_CAPTURE_RELAXED;
        if (own || (thread_mode == CU_STREAM_CAPTURE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_GLOBAL))
            result = spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return result;
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    if (!mode || *mode < CU_STREAM_CAPTURE_GLOBAL || *mode > CU_STREAM_CAPTURE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

/* --- Taking part -------------------------------------------------------------------------------------------------------------------- */

static void join(struct sim_capture *capture, CUstream stream)
{
    stream->capture = capture;
    stream->next_captured = capture->streams;
    capture->streams = stream;
}

static void leave(CUstream stream)
{
    CUstream *at = &stream->capture->streams;
    while (*at != stream)
        at = &(*at)->next_captured;
    *at = stream->next_captured;
    stream->capture = NULL;
    sim_nodes_clear(&stream->captured);
}

/* The end; its graph is the program's, or lost. */
static void finish(struct sim_capture *capture, bool keep)
{
    struct sim_capture **at = &captures;
    while (capture->streams)
        leave(capture->streams);
    while (*at != capture)
        at = &(*at)->next;
    *at = capture->next;
    sim_captures--;
    free(capture->edges);
    if (!keep && !capture->lent)
        sim_graph_delete(capture->graph);
    sim_object_free(capture);
}

void sim_capture_leave(CUstream stream)
{
    struct sim_capture *capture = stream->capture;
    if (!capture)
        return;
    capture->invalid = true;
    if (capture->origin == stream)
        finish(capture, false);
    else
        leave(stream);
}

void sim_capture_forget(CUevent event)
{
    event->capture_id = 0;
    sim_nodes_clear(&event->captured);
}

static struct sim_capture *find(uint64_t id)
{
    struct sim_capture *capture = captures;
    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

static CUresult put_all(struct sim_nodes *to, const struct sim_nodes *from)
{
    for (size_t i = 0; i < from->count; i++)
        if (!sim_nodes_put(to, from->at[i]))
            return CUDA_ERROR_OUT_OF_MEMORY;
    return CUDA_SUCCESS;
}

CUresult sim_capture_wait(CUstream stream, CUevent event)
{
    struct sim_capture *capture = find(event->capture_id);
    if (!capture)
        return CUDA_ERROR_CAPTURED_EVENT;
    if (is_legacy(stream))
        return spoil(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    if (stream->capture && stream->capture != capture) {
        stream->capture->invalid = true;
        return spoil(capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    if (capture->invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!stream->capture)
        join(capture, stream);
    return put_all(&stream->captured, &event->captured);
}

/* --- Nodes ----------------------------------------------------------------------------------------------------------------------------- */

/* The stream's newest node. */
static CUresult reach(CUstream stream, CUgraphNode node)
{
    stream->captured.count = 0;
    return sim_nodes_put(&stream->captured, node) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult record(CUstream stream, CUevent event)
{
    sim_capture_forget(event);
    event->capture_id = stream->capture->id;
    return put_all(&event->captured, &stream->captured);
}

CUresult sim_capture_add(CUstream stream, const struct sim_work *work)
{
    CUresult result;
    struct sim_capture *capture = stream->capture;
    if (capture->invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (work->kind == WORK_RECORD && !work->record.external)
        return record(stream, work->record.event);
    if (work->kind == WORK_WAIT && !work->wait.external)
        return spoil(capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    CUgraphNode node = sim_node_of_work(capture->graph, work, &stream->captured, &result);
    if (result == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
        capture->invalid = true;
    return node ? reach(stream, node) : result;
}

/* A node that is no stream's work. */
static CUresult add(CUstream stream, CUgraphNodeParams *parameters)
{
    CUresult result;
    struct sim_capture *capture = stream->capture;
    if (capture->invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    CUgraphNode node = sim_node_add(capture->graph, (enum sim_node_type)parameters->type, stream->captured.at, stream->captured.count, &result);
    if (node && (result = sim_node_set(node, parameters)) != CUDA_SUCCESS)
        sim_node_delete(node);
    return result == CUDA_SUCCESS ? reach(stream, node) : result;
}

CUresult sim_capture_child(CUstream stream, CUgraph graph)
{
    CUgraphNodeParams parameters = {.type = NODE_CHILD};
    parameters.of.child = graph;
    return add(stream, &parameters);
}

CUresult sim_capture_alloc(CUstream stream, size_t bytes, CUdeviceptr *address)
{
    CUgraphNodeParams parameters = {.type = NODE_ALLOC};
    parameters.of.alloc.pool.allocation_type = CU_MEM_ALLOCATION_TYPE_PINNED;
    parameters.of.alloc.pool.location = (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, stream->context->device};
    parameters.of.alloc.bytes = bytes;
    CUresult result = address ? add(stream, &parameters) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *address = parameters.of.alloc.address;
    return result;
}

CUresult sim_capture_free(CUstream stream, CUdeviceptr address)
{
    CUgraphNodeParams parameters = {.type = NODE_FREE};
    parameters.of.free = address;
    return add(stream, &parameters);
}

/* --- Beginning and ending ------------------------------------------------------------------------------------------------------------ */

static CUresult begin(CUstream handle, CUgraph graph, const CUgraphNode *nodes, size_t count, int mode)
{
    CUstream stream;
    SIM_ENTER();
    CUresult result = sim_stream_find(handle, &stream);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    if (mode < CU_STREAM_CAPTURE_GLOBAL || mode > CU_STREAM_CAPTURE_RELAXED ||
        (graph && (!sim_marked(graph, MARK_GRAPH) || !sim_nodes_in(graph, nodes, count))))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (is_legacy(stream))
        return sim_driver_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (stream->capture)
        return sim_driver_leave(CUDA_ERROR_ILLEGAL_STATE);
    struct sim_capture *capture = sim_object_new(MARK_CAPTURE, sizeof *capture);
    CUgraph into = capture && !graph ? sim_graph_new() : graph;
    if (!capture || !into || put_all(&stream->captured, &(struct sim_nodes){(CUgraphNode *)nodes, graph ? count : 0, 0}) != CUDA_SUCCESS) {
        if (into && !graph)
            sim_graph_delete(into);
        if (capture)
            sim_object_free(capture);
        sim_nodes_clear(&stream->captured);
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    capture->id = next_id++;
    capture->mode = mode;
    capture->thread = this_thread();
    capture->graph = into;
    capture->lent = graph != NULL;
    capture->origin = stream;
    capture->next = captures;
    captures = capture;
    sim_captures++;
    join(capture, stream);
    return sim_driver_leave(CUDA_SUCCESS);
}

static void mark_before(CUgraphNode node)
{
    if (node->place)
        return;
    node->place = 1;
    for (size_t i = 0; i < node->after.count; i++)
        mark_before(node->after.at[i]);
}

/* Whether all that other streams were given comes before what the first one has come to. */
static bool is_joined(const struct sim_capture *capture)
{
    for (CUgraphNode node = capture->graph->first; node; node = node->next)
        node->place = 0;
    for (size_t i = 0; i < capture->origin->captured.count; i++)
        mark_before(capture->origin->captured.at[i]);
    for (const struct sim_stream *stream = capture->streams; stream; stream = stream->next_captured)
        for (size_t i = 0; i < stream->captured.count; i++)
            if (!stream->captured.at[i]->place)
                return false;
    return true;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
    CUstream stream;
    SIM_ENTER();
    CUresult result = sim_stream_find(handle, &stream);
    if (result == CUDA_SUCCESS && !graph)
        result = CUDA_ERROR_INVALID_VALUE;
    struct sim_capture *capture = result == CUDA_SUCCESS ? stream->capture : NULL;
    if (!capture)
        return sim_driver_leave(result == CUDA_SUCCESS ? CUDA_ERROR_ILLEGAL_STATE : result);
    *graph = NULL;
    if (capture->origin != stream)
        return sim_driver_leave(spoil(capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
    if (capture->mode != CU_STREAM_CAPTURE_RELAXED && capture->thread != this_thread())
        return sim_driver_leave(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    result = capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : is_joined(capture) ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    if (result == CUDA_SUCCESS)
        *graph = capture->graph;
    finish(capture, result == CUDA_SUCCESS);
    return sim_user_objects_leave(result);
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
    return cuStreamEndCapture(sim_per_thread(stream), graph);
}

#define BEGIN(call, parameters, graph, nodes, count, mode)                                                                                 \
    CUresult call parameters                                                                                                               \
    {                                                                                                                                      \
        return begin(stream, graph, nodes, count, mode);                                                                                   \
    }                                                                                                                                      \
    CUresult call##_ptsz parameters                                                                                                        \
    {                                                                                                                                      \
        return begin(sim_per_thread(stream), graph, nodes, count, mode);                                                                   \
    }
BEGIN(cuStreamBeginCapture, (CUstream stream), NULL, NULL, 0, CU_STREAM_CAPTURE_GLOBAL)
BEGIN(cuStreamBeginCapture_v2, (CUstream stream, int mode), NULL, NULL, 0, mode)
BEGIN(cuStreamBeginCaptureToGraph,
      (CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count, int mode), graph, nodes, count,
      graph && sim_edges_plain(edges, count) ? mode : -1)

/* --- Looking ------------------------------------------------------------------------------------------------------------------------------ */

struct state {
    int status;
    struct sim_capture *capture;
    CUstream stream;
};

static CUresult look(CUstream handle, struct state *state)
{
    SIM_ENTER();
    CUresult result = sim_stream_find(handle, &state->stream);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    state->capture = state->stream->capture;
    state->status = !state->capture ? CU_STREAM_CAPTURE_NONE : state->capture->invalid ? CU_STREAM_CAPTURE_INVALIDATED : CU_STREAM_CAPTURE_ACTIVE;
    if (is_legacy(state->stream))
        for (const struct sim_capture *capture = captures; capture; capture = capture->next)
            for (const struct sim_stream *at = capture->streams; at; at = at->next_captured)
                if (at->context == state->stream->context && !(at->flags & CU_STREAM_NON_BLOCKING))
                    result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    return sim_driver_leave(result);
}

CUresult cuStreamIsCapturing(CUstream stream, int *status)
{
    struct state state = {0};
    CUresult result = status ? look(stream, &state) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *status = state.status;
    return result;
}

CUresult cuStreamIsCapturing_ptsz(CUstream stream, int *status)
{
    return cuStreamIsCapturing(sim_per_thread(stream), status);
}

/* All edges are plain. */
static CUresult edges_of(struct sim_capture *capture, size_t count, const CUgraphEdgeData **edges)
{
    SIM_ENTER();
    CUgraphEdgeData *room = realloc(capture->edges, (count + 1) * sizeof *room);
    if (!room)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    memset(room, 0, (count + 1) * sizeof *room);
    *edges = capture->edges = room;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes,
                                   const CUgraphEdgeData **edges, size_t *count)
{
    struct state state = {0};
    CUresult result = status ? look(stream, &state) : CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    *status = state.status;
    if (state.status != CU_STREAM_CAPTURE_ACTIVE)
        return CUDA_SUCCESS;
    if (id)
        *id = state.capture->id;
    if (graph)
        *graph = state.capture->graph;
    if (nodes)
        *nodes = state.stream->captured.at;
    if (count)
        *count = state.stream->captured.count;
    return edges ? edges_of(state.capture, state.stream->captured.count, edges) : CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, size_t *count)
{
    return cuStreamGetCaptureInfo_v3(stream, status, id, graph, nodes, NULL, count);
}

CUresult cuStreamGetCaptureInfo(CUstream stream, int *status, uint64_t *id)
{
    return cuStreamGetCaptureInfo_v2(stream, status, id, NULL, NULL, NULL);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode *nodes, size_t count, unsigned flags)
{
    CUstream stream;
    SIM_ENTER();
    CUresult result = sim_stream_find(handle, &stream);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    if (!stream->capture)
        return sim_driver_leave(CUDA_ERROR_ILLEGAL_STATE);
    if (flags > 1 || !sim_nodes_in(stream->capture->graph, nodes, count))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (flags)
        stream->captured.count = 0;
    return sim_driver_leave(put_all(&stream->captured, &(struct sim_nodes){nodes, count, 0}));
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream stream, CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count, unsigned flags)
{
    return sim_edges_plain(edges, count) ? cuStreamUpdateCaptureDependencies(stream, nodes, count, flags) : CUDA_ERROR_INVALID_VALUE;
}

#define PER_THREAD(call, parameters, ...)                                                                                                  \
    CUresult call##_ptsz parameters                                                                                                        \
    {                                                                                                                                      \
        return call(sim_per_thread(stream), __VA_ARGS__);                                                                                  \
    }
PER_THREAD(cuStreamGetCaptureInfo, (CUstream stream, int *status, uint64_t *id), status, id)
PER_THREAD(cuStreamGetCaptureInfo_v2, (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, size_t *count),
           status, id, graph, nodes, count)
PER_THREAD(cuStreamGetCaptureInfo_v3,
           (CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *count),
           status, id, graph, nodes, edges, count)
PER_THREAD(cuStreamUpdateCaptureDependencies, (CUstream stream, CUgraphNode *nodes, size_t count, unsigned flags), nodes, count, flags)
PER_THREAD(cuStreamUpdateCaptureDependencies_v2, (CUstream stream, CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count, unsigned flags),
           nodes, edges, count, flags)
