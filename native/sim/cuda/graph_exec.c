/* SPDX-License-Identifier: Apache-2.0
 *
 * Executable graphs: made from a graph, changed afterwards, and started.
 *
 * A node is started as soon as what it comes after is over, so that branches run side by side where the device lets them. If
 * a graph has something for the host to do (a function, values in memory, an event that the host has to wait for), or the
 * stream waits for the host already, its nodes are given to the stream one after the other instead, in an order that fits.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

/* --- Making ------------------------------------------------------------------------------------------------------------------- */

static CUresult make(CUgraphExec *out, CUgraph graph, uint64_t flags)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    CUcontext context = sim_context_current();
    if (!out || !sim_marked(graph, MARK_GRAPH) || flags & ~(uint64_t)CU_GRAPH_INSTANTIATE_ALL)
        return CUDA_ERROR_INVALID_VALUE;
    if (!context || !sim_marked(context, MARK_CONTEXT))
        return CUDA_ERROR_INVALID_CONTEXT;
    if (flags & CU_GRAPH_INSTANTIATE_DEVICE_LAUNCH || (graph->allocations && graph->instantiated))
        return CUDA_ERROR_NOT_SUPPORTED;
    CUgraph copy = sim_graph_copy(graph, &result);
    CUgraphExec exec = copy ? sim_object_new(MARK_EXEC, sizeof *exec) : NULL;
    if (!exec) {
        if (copy)
            sim_graph_delete(copy);
        return copy ? CUDA_ERROR_OUT_OF_MEMORY : result;
    }
    exec->graph = copy;
    exec->of = graph;
    exec->of_id = graph->id;
    exec->flags = flags;
    graph->instantiated = true;
    *out = exec;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    SIM_ENTER();
    /* to upload needs a stream, which only the form with parameters names */
    return sim_driver_leave(flags & CU_GRAPH_INSTANTIATE_UPLOAD ? CUDA_ERROR_INVALID_VALUE : make(exec, graph, flags));
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes)
{
    CUresult result = cuGraphInstantiateWithFlags(exec, graph, 0);
    if (node)
        *node = NULL;
    if (log && bytes)
        *log = 0;
    return result;
}
SIM_SAME(cuGraphInstantiate_v2, cuGraphInstantiate);

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    CUresult result = make(exec, graph, parameters->flags);
    parameters->error_node = NULL;
    parameters->result = result == CUDA_SUCCESS ? 0 : 1;
    sim_driver_leave(CUDA_SUCCESS);
    return result == CUDA_SUCCESS && parameters->flags & CU_GRAPH_INSTANTIATE_UPLOAD ? cuGraphUpload(*exec, parameters->upload) : result;
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
    if (parameters)
        parameters->upload = sim_per_thread(parameters->upload);
    return cuGraphInstantiateWithParams(exec, graph, parameters);
}

static void end_if_idle(CUgraphExec exec)
{
    if (!exec->ended || exec->busy)
        return;
    sim_graph_delete(exec->graph);
    sim_object_free(exec);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    SIM_ENTER();
    if (!sim_marked(exec, MARK_EXEC) || exec->ended)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (sim_marked(exec->of, MARK_GRAPH) && exec->of->id == exec->of_id)
        exec->of->instantiated = false;
    exec->ended = true;
    end_if_idle(exec);
    return sim_user_objects_leave(CUDA_SUCCESS);
}

CUresult cuGraphExecGetFlags(CUgraphExec exec, uint64_t *flags)
{
    SIM_ENTER();
    if (!sim_marked(exec, MARK_EXEC) || !flags)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *flags = exec->flags;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Changing ------------------------------------------------------------------------------------------------------------------- */

/* The executable's node that was made from `node`, or NULL. */
static CUgraphNode node_of(CUgraphExec exec, CUgraphNode node)
{
    if (!sim_marked(exec, MARK_EXEC) || exec->ended || !sim_marked(node, MARK_NODE))
        return NULL;
    return sim_graph_find(exec->graph, node->id);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *parameters)
{
    SIM_ENTER();
    CUgraphNode own = parameters ? node_of(exec, node) : NULL;
    return sim_driver_leave(own ? sim_node_set(own, parameters) : CUDA_ERROR_INVALID_VALUE);
}

#define SETTER(call, node_type, kind, target, bytes)                                                                                       \
    CUresult call(CUgraphExec exec, CUgraphNode node, const kind *given)                                                                   \
    {                                                                                                                                      \
        CUgraphNodeParams room = {.type = node_type};                                                                                      \
        if (!given)                                                                                                                        \
            return CUDA_ERROR_INVALID_VALUE;                                                                                               \
        memcpy(&room.of.target, given, bytes);                                                                                             \
        return cuGraphExecNodeSetParams(exec, node, &room);                                                                                \
    }
#define SETTER_IN_CONTEXT(call, node_type, kind, target)                                                                                   \
    CUresult call(CUgraphExec exec, CUgraphNode node, const kind *given, CUcontext context)                                                \
    {                                                                                                                                      \
        CUgraphNodeParams room = {.type = node_type};                                                                                      \
        (void)context;                                                                                                                     \
        if (!given)                                                                                                                        \
            return CUDA_ERROR_INVALID_VALUE;                                                                                               \
        memcpy(&room.of.target, given, sizeof *given);                                                                                     \
        return cuGraphExecNodeSetParams(exec, node, &room);                                                                                \
    }
#define HANDLE_SETTER(call, node_type, kind, target)                                                                                       \
    CUresult call(CUgraphExec exec, CUgraphNode node, kind given)                                                                          \
    {                                                                                                                                      \
        CUgraphNodeParams room = {.type = node_type};                                                                                      \
        room.of.target = given;                                                                                                            \
        return cuGraphExecNodeSetParams(exec, node, &room);                                                                                \
    }
SETTER(cuGraphExecKernelNodeSetParams, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, kernel, offsetof(CUDA_KERNEL_NODE_PARAMS, kernel))
SETTER(cuGraphExecKernelNodeSetParams_v2, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, kernel, sizeof *given)
SETTER_IN_CONTEXT(cuGraphExecMemcpyNodeSetParams, NODE_COPY, CUDA_MEMCPY3D, copy.box)
SETTER_IN_CONTEXT(cuGraphExecMemsetNodeSetParams, NODE_FILL, CUDA_MEMSET_NODE_PARAMS, fill)
SETTER(cuGraphExecHostNodeSetParams, NODE_HOST, CUDA_HOST_NODE_PARAMS, host, sizeof *given)
SETTER(cuGraphExecBatchMemOpNodeSetParams, NODE_VALUES, CUDA_BATCH_MEM_OP_NODE_PARAMS, values, sizeof *given)
HANDLE_SETTER(cuGraphExecChildGraphNodeSetParams, NODE_CHILD, CUgraph, child)
HANDLE_SETTER(cuGraphExecEventRecordNodeSetEvent, NODE_RECORD, CUevent, event)
HANDLE_SETTER(cuGraphExecEventWaitNodeSetEvent, NODE_WAIT, CUevent, event)

static bool can_be_off(const struct sim_graph_node *node)
{
    return node->type == NODE_KERNEL || node->type == NODE_COPY || node->type == NODE_FILL;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned enabled)
{
    SIM_ENTER();
    CUgraphNode own = node_of(exec, node);
    if (!own || !can_be_off(own))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    own->disabled = !enabled;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned *enabled)
{
    SIM_ENTER();
    CUgraphNode own = node_of(exec, node);
    if (!own || !can_be_off(own) || !enabled)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *enabled = !own->disabled;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* How the two graphs, both in an order that can be started, differ in shape. */
static int difference(CUgraph old, CUgraph new, CUgraphNode *at)
{
    CUgraphNode a = old->first, b = new->first;
    *at = NULL;
    if (old->count != new->count)
        return CU_GRAPH_EXEC_UPDATE_TOPOLOGY;
    for (size_t i = 0; i < old->count; i++, a = a->next, b = b->next)
        a->place = b->place = i;
    for (a = old->first, b = new->first; b; a = a->next, b = b->next) {
        *at = b;
        if (a->type != b->type)
            return CU_GRAPH_EXEC_UPDATE_TYPE;
        if (a->after.count != b->after.count)
            return CU_GRAPH_EXEC_UPDATE_TOPOLOGY;
        for (size_t i = 0; i < a->after.count; i++) {
            bool found = false;
            for (size_t j = 0; j < b->after.count && !found; j++)
                found = a->after.at[i]->place == b->after.at[j]->place;
            if (!found)
                return CU_GRAPH_EXEC_UPDATE_TOPOLOGY;
        }
        if (a->type == NODE_ALLOC || a->type == NODE_FREE)
            return CU_GRAPH_EXEC_UPDATE_NOT_SUPPORTED;
        int inside = a->child ? difference(a->child, b->child, at) : CU_GRAPH_EXEC_UPDATE_SUCCESS;
        if (inside != CU_GRAPH_EXEC_UPDATE_SUCCESS)
            return inside;
    }
    *at = NULL;
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

static CUresult update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
    CUresult result;
    CUgraph copy = sim_graph_copy(graph, &result);
    if (!copy)
        return result;
    CUgraphNode where;
    info->result = difference(exec->graph, copy, &where);
    CUgraphNode b = copy->first;
    for (CUgraphNode node = graph->first; node && where; node = node->next)
        if (where->origin == node->id)
            info->node = node;
    for (CUgraphNode a = exec->graph->first; a && info->result == CU_GRAPH_EXEC_UPDATE_SUCCESS && result == CUDA_SUCCESS; a = a->next, b = b->next)
        result = sim_node_take_over(a, b);
    sim_graph_delete(copy);
    return info->result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? result : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
    SIM_ENTER();
    if (!info || !sim_marked(exec, MARK_EXEC) || exec->ended || !sim_marked(graph, MARK_GRAPH))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *info = (CUgraphExecUpdateResultInfo){CU_GRAPH_EXEC_UPDATE_SUCCESS, NULL, NULL};
    return sim_user_objects_leave(update(exec, graph, info));
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *node, int *why)
{
    CUgraphExecUpdateResultInfo info = {0};
    CUresult result = node && why ? cuGraphExecUpdate_v2(exec, graph, &info) : CUDA_ERROR_INVALID_VALUE;
    if (node && why) {
        *node = info.node;
        *why = info.result;
    }
    return result;
}

/* --- Memory: all of it is there before anything is started, so that a launch fails whole or not at all ------------------------------- */

static CUresult prepare(CUgraphExec exec)
{
    CUresult result = CUDA_SUCCESS;
    CUgraphNode node;
    for (node = exec->graph->first; node; node = node->next)
        if (node->type == NODE_ALLOC && node->block->physical) {
            if (!(exec->flags & CU_GRAPH_INSTANTIATE_AUTO_FREE))
                return CUDA_ERROR_INVALID_VALUE;
            sim_graph_block_give(node->block);
        }
    /* Take and give as the launch will; what this reserves is then kept for it. */
    for (node = exec->graph->first; node && result == CUDA_SUCCESS; node = node->next) {
        if (node->type == NODE_ALLOC)
            result = sim_graph_block_take(node->block);
        else if (node->type == NODE_FREE && sim_graph_makes(exec->graph, node->block))
            sim_graph_block_give(node->block);
    }
    for (node = exec->graph->first; node; node = node->next)
        if (node->type == NODE_ALLOC && node->block->physical)
            sim_graph_block_give(node->block);
    return result;
}

/* --- Starting ---------------------------------------------------------------------------------------------------------------------- */

static bool needs_host(CUstream stream, CUgraph graph)
{
    for (const struct sim_graph_node *node = graph->first; node; node = node->next) {
        if (node->type == NODE_HOST || node->type == NODE_VALUES || (node->child && needs_host(stream, node->child)))
            return true;
        if (node->type == NODE_WAIT && sim_marked(node->event, MARK_EVENT)) {
            struct sim_work wait = sim_event_wait(node->event);
            if (sim_gate_needed(stream, &wait))
                return true;
        }
    }
    return false;
}

/* The node's work, which is over at once for one that has none. */
static CUresult work_of(const struct sim_graph_node *node, struct sim_work *work)
{
    *work = (struct sim_work){.kind = WORK_EMPTY};
    if (node->disabled)
        return CUDA_SUCCESS;
    if (node->type == NODE_RECORD || node->type == NODE_WAIT) {
        if (!sim_marked(node->event, MARK_EVENT))
            return CUDA_ERROR_INVALID_HANDLE;
        if (node->type == NODE_WAIT) {
            *work = sim_event_wait(node->event);
        } else {
            work->kind = WORK_RECORD;
            work->record.event = node->event;
        }
    } else if (node->type == NODE_FREE) {
        work->kind = WORK_GIVE;
        work->give = node->block;
    } else if (node->type != NODE_CHILD && node->type != NODE_ALLOC) {
        *work = node->work;
    }
    return CUDA_SUCCESS;
}

static CUresult start_all(CUstream stream, CUgraph graph, const struct sim_position *after, struct sim_position *reached);

static CUresult start_node(CUstream stream, const struct sim_graph_node *node, const struct sim_position *after, struct sim_position *reached)
{
    struct sim_work work;
    if (node->type == NODE_CHILD)
        return start_all(stream, node->child, after, reached);
    CUresult result = node->type == NODE_ALLOC ? sim_graph_block_take(node->block) : CUDA_SUCCESS;
    if (result == CUDA_SUCCESS)
        result = work_of(node, &work);
    return result == CUDA_SUCCESS ? sim_work_start(stream, &work, after, reached) : result;
}

static CUresult start_all(CUstream stream, CUgraph graph, const struct sim_position *after, struct sim_position *reached)
{
    struct sim_position *ends = calloc(graph->count + 1, sizeof *ends);
    CUresult result = ends ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    size_t at = 0;
    sim_position_join(reached, after);
    for (CUgraphNode node = graph->first; node && result == CUDA_SUCCESS; node = node->next, at++) {
        struct sim_position joined = {0};
        node->place = at;
        for (size_t i = 0; i < node->after.count; i++)
            sim_position_join(&joined, &ends[node->after.at[i]->place]);
        result = start_node(stream, node, node->after.count ? &joined : after, &ends[at]);
        sim_position_join(reached, &ends[at]);
    }
    free(ends);
    return result;
}

/* One after the other, behind what waits for the host. */
static CUresult submit_all(CUstream stream, CUgraph graph)
{
    CUresult result = CUDA_SUCCESS;
    for (CUgraphNode node = graph->first; node && result == CUDA_SUCCESS; node = node->next) {
        struct sim_work work;
        if (node->type == NODE_CHILD) {
            result = submit_all(stream, node->child);
            continue;
        }
        result = node->type == NODE_ALLOC ? sim_graph_block_take(node->block) : work_of(node, &work);
        if (result != CUDA_SUCCESS || node->type == NODE_ALLOC)
            continue;
        if (work.kind == WORK_VALUES) {
            size_t bytes = work.values.count * sizeof *work.values.list;
            CUstreamValue *list = malloc(bytes);
            if (!list)
                return CUDA_ERROR_OUT_OF_MEMORY;
            work.values.list = memcpy(list, work.values.list, bytes);
        }
        result = sim_stream_submit(stream, &work);
    }
    return result;
}

static CUresult start(CUstream stream, CUgraphExec exec)
{
    struct sim_position joined, reached = {0};
    if (exec->graph->allocations) {
        sim_gate_wait(stream->context, stream); /* an earlier launch of it may have memory to give back */
        CUresult prepared = prepare(exec);
        if (prepared != CUDA_SUCCESS)
            return prepared;
    }
    if (sim_gate_needed(stream, &(struct sim_work){.kind = WORK_EMPTY}) || needs_host(stream, exec->graph))
        return submit_all(stream, exec->graph);
    CUresult result = start_all(stream, exec->graph, sim_stream_after(stream, &joined), &reached);
    if (result == CUDA_SUCCESS)
        sim_stream_reach(stream, &reached);
    return result;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = sim_marked(exec, MARK_EXEC) && !exec->ended ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && at->capture)
        return sim_driver_leave(sim_capture_child(at, exec->graph));
    if (result == CUDA_SUCCESS)
        result = sim_capture_permits(at, false);
    if (result != CUDA_SUCCESS)
        return sim_driver_leave(result);
    exec->busy++;
    result = start(at, exec);
    exec->busy--;
    end_if_idle(exec);
    return sim_user_objects_leave(result);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream)
{
    return cuGraphLaunch(exec, sim_per_thread(stream));
}

/* What it needs is there before it is started. */
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    CUresult result = sim_marked(exec, MARK_EXEC) && !exec->ended ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && at->capture)
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (result == CUDA_SUCCESS && exec->graph->allocations) {
        sim_gate_wait(at->context, at);
        result = prepare(exec);
    }
    return sim_driver_leave(result);
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
    return cuGraphUpload(exec, sim_per_thread(stream));
}
