/* SPDX-License-Identifier: Apache-2.0
 *
 * What nodes do, and the calls that say so. Every call that names a node's parameters goes through sim_node_set or
 * sim_node_get, whatever type the call is for.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

/* Check work as if it were given to the current context now; a graph's own memory need not be there yet. */
static CUresult check(const struct sim_work *work)
{
    CUcontext context = sim_context_current();
    if (!context || !sim_marked(context, MARK_CONTEXT))
        return CUDA_ERROR_INVALID_CONTEXT;
    sim_memory_is_planned = true;
    CUresult result = sim_work_check(&context->legacy, work);
    sim_memory_is_planned = false;
    return result;
}

static CUresult set_work(CUgraphNode node, const struct sim_work *work)
{
    CUresult result = check(work);
    if (result == CUDA_SUCCESS)
        node->work = *work;
    return result;
}

static CUresult set_kernel(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *p)
{
    struct sim_work work = {.kind = WORK_KERNEL};
    work.kernel = (struct sim_kernel){p->function ? p->function : p->kernel, {p->grid[0], p->grid[1], p->grid[2]}, {p->block[0], p->block[1], p->block[2]},
                                      p->shared_bytes, false, p->parameters, p->extra};
    return set_work(node, &work);
}

static CUresult set_copy(CUgraphNode node, const CUDA_MEMCPY3D *box)
{
    struct sim_work work = {.kind = WORK_COPY};
    work.copy = *box;
    return set_work(node, &work);
}

static CUresult set_fill(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *p)
{
    struct sim_work work = {.kind = WORK_FILL};
    work.fill = (struct sim_fill){p->dst, p->height > 1 ? p->pitch : 0, p->value, p->element, p->width, p->height};
    return set_work(node, &work);
}

static CUresult set_host(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *p)
{
    struct sim_work work = {.kind = WORK_HOST};
    work.host.function = p->function;
    work.host.data = p->data;
    return set_work(node, &work);
}

static CUresult set_event(CUgraphNode node, CUevent event)
{
    if (!sim_marked(event, MARK_EVENT))
        return CUDA_ERROR_INVALID_VALUE;
    node->event = event;
    return CUDA_SUCCESS;
}

static CUresult set_values(CUgraphNode node, const CUDA_BATCH_MEM_OP_NODE_PARAMS *p)
{
    CUresult result = p->flags ? CUDA_ERROR_INVALID_VALUE : sim_values_check(p->list, p->count);
    CUstreamValue *list = result == CUDA_SUCCESS ? malloc(p->count * sizeof *list) : NULL;
    if (!list)
        return result == CUDA_SUCCESS ? CUDA_ERROR_OUT_OF_MEMORY : result;
    memcpy(list, p->list, p->count * sizeof *list);
    if (node->work.kind == WORK_VALUES)
        free(node->work.values.list);
    node->work = (struct sim_work){.kind = WORK_VALUES};
    node->work.values.list = list;
    node->work.values.count = p->count;
    return CUDA_SUCCESS;
}

static CUresult set_child(CUgraphNode node, CUgraph child)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    if (!sim_marked(child, MARK_GRAPH) || child == node->graph)
        return CUDA_ERROR_INVALID_VALUE;
    if (child->allocations) /* it would have to be moved here, and not copied */
        return CUDA_ERROR_NOT_SUPPORTED;
    CUgraph copy = sim_graph_copy(child, &result);
    if (!copy)
        return result;
    if (node->child)
        sim_graph_delete(node->child);
    copy->owner = node;
    node->child = copy;
    return CUDA_SUCCESS;
}

CUresult sim_node_set(CUgraphNode node, CUgraphNodeParams *parameters)
{
    if (parameters->type != (int)node->type)
        return CUDA_ERROR_INVALID_VALUE;
    switch (node->type) {
    case NODE_KERNEL:
        return set_kernel(node, &parameters->of.kernel);
    case NODE_COPY:
        return set_copy(node, &parameters->of.copy.box);
    case NODE_FILL:
        return set_fill(node, &parameters->of.fill);
    case NODE_HOST:
        return set_host(node, &parameters->of.host);
    case NODE_CHILD:
        return set_child(node, parameters->of.child);
    case NODE_EMPTY:
        return CUDA_SUCCESS;
    case NODE_WAIT:
    case NODE_RECORD:
        return set_event(node, parameters->of.event);
    case NODE_ALLOC:
        return node->block ? CUDA_ERROR_INVALID_VALUE : sim_node_set_alloc(node, &parameters->of.alloc);
    case NODE_FREE:
        return node->block ? CUDA_ERROR_INVALID_VALUE : sim_node_set_free(node, parameters->of.free);
    case NODE_VALUES:
        return set_values(node, &parameters->of.values);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

static void get(const struct sim_graph_node *node, CUgraphNodeParams *out)
{
    const struct sim_work *work = &node->work;
    memset(out, 0, sizeof *out);
    out->type = (int)node->type;
    switch (node->type) {
    case NODE_KERNEL: {
        const struct sim_kernel *k = &work->kernel;
        out->of.kernel = (CUDA_KERNEL_NODE_PARAMS){k->function, {k->grid[0], k->grid[1], k->grid[2]}, {k->block[0], k->block[1], k->block[2]},
                                                   k->shared_bytes, k->parameters, k->extra, NULL, NULL};
        break;
    }
    case NODE_COPY:
        out->of.copy.box = work->copy;
        break;
    case NODE_FILL:
        out->of.fill = (CUDA_MEMSET_NODE_PARAMS){work->fill.dst, work->fill.pitch, work->fill.value, work->fill.element, work->fill.width, work->fill.height};
        break;
    case NODE_HOST:
        out->of.host = (CUDA_HOST_NODE_PARAMS){work->host.function, work->host.data};
        break;
    case NODE_CHILD:
        out->of.child = node->child;
        break;
    case NODE_WAIT:
    case NODE_RECORD:
        out->of.event = node->event;
        break;
    case NODE_VALUES:
        out->of.values = (CUDA_BATCH_MEM_OP_NODE_PARAMS){NULL, work->values.count, work->values.list, 0};
        break;
    default:
        break;
    }
}

CUresult sim_node_take_over(CUgraphNode node, const struct sim_graph_node *from)
{
    CUgraphNodeParams parameters;
    switch (from->type) {
    case NODE_CHILD:
        return set_child(node, from->child);
    case NODE_VALUES:
        get(from, &parameters);
        return set_values(node, &parameters.of.values);
    case NODE_ALLOC:
    case NODE_FREE:
        node->block = from->block;
        node->block->nodes++;
        node->graph->allocations++;
        return CUDA_SUCCESS;
    default:
        node->work = from->work;
        node->event = from->event;
        return CUDA_SUCCESS;
    }
}

CUgraphNode sim_node_of_work(CUgraph graph, const struct sim_work *work, const struct sim_nodes *after, CUresult *error)
{
    static const enum sim_node_type types[] = {[WORK_EMPTY] = NODE_EMPTY, [WORK_KERNEL] = NODE_KERNEL, [WORK_COPY] = NODE_COPY, [WORK_FILL] = NODE_FILL,
                                               [WORK_HOST] = NODE_HOST, [WORK_RECORD] = NODE_RECORD, [WORK_WAIT] = NODE_WAIT, [WORK_VALUES] = NODE_VALUES};
    *error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (work->kind == WORK_CALLBACK || work->kind == WORK_GIVE)
        return NULL;
    bool has_event = work->kind == WORK_RECORD || work->kind == WORK_WAIT;
    *error = has_event ? CUDA_SUCCESS : check(work);
    CUgraphNode node = *error == CUDA_SUCCESS ? sim_node_add(graph, types[work->kind], after->at, after->count, error) : NULL;
    if (node && has_event)
        node->event = work->kind == WORK_RECORD ? work->record.event : work->wait.event;
    else if (node)
        node->work = *work;
    return node;
}

/* --- Adding ------------------------------------------------------------------------------------------------------------------------- */

static CUresult add(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeParams *parameters)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    SIM_ENTER();
    if (!out || !sim_marked(graph, MARK_GRAPH))
        return sim_driver_leave(result);
    if (parameters->type < 0 || parameters->type >= NODE_CONDITIONAL || (graph->owner && parameters->type == NODE_ALLOC))
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    CUgraphNode node = sim_node_add(graph, (enum sim_node_type)parameters->type, after, count, &result);
    if (node && (result = sim_node_set(node, parameters)) != CUDA_SUCCESS)
        sim_node_delete(node);
    if (result == CUDA_SUCCESS)
        *out = node;
    return sim_driver_leave(result);
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeParams *parameters)
{
    return parameters ? add(node, graph, after, count, parameters) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, const CUgraphEdgeData *edges, size_t count,
                           CUgraphNodeParams *parameters)
{
    return sim_edges_plain(edges, count) ? cuGraphAddNode(node, graph, after, count, parameters) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count)
{
    return add(node, graph, after, count, &(CUgraphNodeParams){.type = NODE_EMPTY});
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, CUDA_MEM_ALLOC_NODE_PARAMS *alloc)
{
    CUgraphNodeParams parameters = {.type = NODE_ALLOC};
    if (!alloc)
        return CUDA_ERROR_INVALID_VALUE;
    parameters.of.alloc = *alloc;
    CUresult result = add(node, graph, after, count, &parameters);
    if (result == CUDA_SUCCESS)
        alloc->address = parameters.of.alloc.address;
    return result;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, CUdeviceptr address)
{
    CUgraphNodeParams parameters = {.type = NODE_FREE};
    parameters.of.free = address;
    return add(node, graph, after, count, &parameters);
}

/* --- Adding, getting and setting, by type -------------------------------------------------------------------------------------------- */

static CUresult get_node(CUgraphNode node, enum sim_node_type type, CUgraphNodeParams *parameters)
{
    SIM_ENTER();
    if (!sim_marked(node, MARK_NODE) || node->type != type)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    get(node, parameters);
    return sim_driver_leave(CUDA_SUCCESS);
}

static CUresult set_node(CUgraphNode node, CUgraphNodeParams *parameters)
{
    SIM_ENTER();
    return sim_driver_leave(sim_marked(node, MARK_NODE) ? sim_node_set(node, parameters) : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams *parameters)
{
    return parameters ? set_node(node, parameters) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetType(CUgraphNode node, int *type)
{
    SIM_ENTER();
    if (!sim_marked(node, MARK_NODE) || !type)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *type = (int)node->type;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* The parameters of `bytes` at `given`, as what says their type. */
static CUgraphNodeParams *wrap(CUgraphNodeParams *room, enum sim_node_type type, const void *given, size_t bytes)
{
    memset(room, 0, sizeof *room);
    room->type = (int)type;
    memcpy(type == NODE_COPY ? (void *)&room->of.copy.box : (void *)&room->of, given, bytes);
    return room;
}

#define ADDER(call, node_type, type, bytes)                                                                                                \
    CUresult call(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, const type *given)                             \
    {                                                                                                                                      \
        CUgraphNodeParams room;                                                                                                            \
        return given ? add(node, graph, after, count, wrap(&room, node_type, given, bytes)) : CUDA_ERROR_INVALID_VALUE;                    \
    }
#define GETTER(call, node_type, type, member, bytes)                                                                                       \
    CUresult call(CUgraphNode node, type *out)                                                                                             \
    {                                                                                                                                      \
        CUgraphNodeParams found;                                                                                                           \
        CUresult result = out ? get_node(node, node_type, &found) : CUDA_ERROR_INVALID_VALUE;                                              \
        if (result == CUDA_SUCCESS)                                                                                                        \
            memcpy(out, &found.of.member, bytes);                                                                                          \
        return result;                                                                                                                     \
    }
#define SETTER(call, node_type, type, bytes)                                                                                               \
    CUresult call(CUgraphNode node, const type *given)                                                                                     \
    {                                                                                                                                      \
        CUgraphNodeParams room;                                                                                                            \
        return given ? set_node(node, wrap(&room, node_type, given, bytes)) : CUDA_ERROR_INVALID_VALUE;                                    \
    }
#define IN_CONTEXT(call, node_type, type)                                                                                                  \
    CUresult call(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, const type *given, CUcontext context)          \
    {                                                                                                                                      \
        CUgraphNodeParams room;                                                                                                            \
        (void)context;                                                                                                                     \
        return given ? add(node, graph, after, count, wrap(&room, node_type, given, sizeof *given)) : CUDA_ERROR_INVALID_VALUE;            \
    }
#define OLD_KERNEL offsetof(CUDA_KERNEL_NODE_PARAMS, kernel)

ADDER(cuGraphAddKernelNode, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, OLD_KERNEL)
ADDER(cuGraphAddKernelNode_v2, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, sizeof *given)
IN_CONTEXT(cuGraphAddMemcpyNode, NODE_COPY, CUDA_MEMCPY3D)
IN_CONTEXT(cuGraphAddMemsetNode, NODE_FILL, CUDA_MEMSET_NODE_PARAMS)
ADDER(cuGraphAddHostNode, NODE_HOST, CUDA_HOST_NODE_PARAMS, sizeof *given)
ADDER(cuGraphAddBatchMemOpNode, NODE_VALUES, CUDA_BATCH_MEM_OP_NODE_PARAMS, sizeof *given)

GETTER(cuGraphKernelNodeGetParams, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, kernel, OLD_KERNEL)
GETTER(cuGraphKernelNodeGetParams_v2, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, kernel, sizeof *out)
GETTER(cuGraphMemcpyNodeGetParams, NODE_COPY, CUDA_MEMCPY3D, copy.box, sizeof *out)
GETTER(cuGraphMemsetNodeGetParams, NODE_FILL, CUDA_MEMSET_NODE_PARAMS, fill, sizeof *out)
GETTER(cuGraphHostNodeGetParams, NODE_HOST, CUDA_HOST_NODE_PARAMS, host, sizeof *out)
GETTER(cuGraphBatchMemOpNodeGetParams, NODE_VALUES, CUDA_BATCH_MEM_OP_NODE_PARAMS, values, sizeof *out)
GETTER(cuGraphChildGraphNodeGetGraph, NODE_CHILD, CUgraph, child, sizeof *out)
GETTER(cuGraphEventRecordNodeGetEvent, NODE_RECORD, CUevent, event, sizeof *out)
GETTER(cuGraphEventWaitNodeGetEvent, NODE_WAIT, CUevent, event, sizeof *out)

SETTER(cuGraphKernelNodeSetParams, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, OLD_KERNEL)
SETTER(cuGraphKernelNodeSetParams_v2, NODE_KERNEL, CUDA_KERNEL_NODE_PARAMS, sizeof *given)
SETTER(cuGraphMemcpyNodeSetParams, NODE_COPY, CUDA_MEMCPY3D, sizeof *given)
SETTER(cuGraphMemsetNodeSetParams, NODE_FILL, CUDA_MEMSET_NODE_PARAMS, sizeof *given)
SETTER(cuGraphHostNodeSetParams, NODE_HOST, CUDA_HOST_NODE_PARAMS, sizeof *given)
SETTER(cuGraphBatchMemOpNodeSetParams, NODE_VALUES, CUDA_BATCH_MEM_OP_NODE_PARAMS, sizeof *given)

/* What is one handle is given as it is. */
#define HANDLE_ADDER(call, node_type, type)                                                                                                \
    CUresult call(CUgraphNode *node, CUgraph graph, const CUgraphNode *after, size_t count, type given)                                    \
    {                                                                                                                                      \
        CUgraphNodeParams room;                                                                                                            \
        return add(node, graph, after, count, wrap(&room, node_type, &given, sizeof given));                                               \
    }
#define HANDLE_SETTER(call, node_type, type)                                                                                               \
    CUresult call(CUgraphNode node, type given)                                                                                            \
    {                                                                                                                                      \
        CUgraphNodeParams room;                                                                                                            \
        return set_node(node, wrap(&room, node_type, &given, sizeof given));                                                               \
    }
HANDLE_ADDER(cuGraphAddChildGraphNode, NODE_CHILD, CUgraph)
HANDLE_ADDER(cuGraphAddEventRecordNode, NODE_RECORD, CUevent)
HANDLE_ADDER(cuGraphAddEventWaitNode, NODE_WAIT, CUevent)
HANDLE_SETTER(cuGraphEventRecordNodeSetEvent, NODE_RECORD, CUevent)
HANDLE_SETTER(cuGraphEventWaitNodeSetEvent, NODE_WAIT, CUevent)
