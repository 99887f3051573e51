/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs, their nodes and edges. Invariant: a node comes after nodes of its own graph only, and never after itself.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static uint64_t next_id = 1;

/* --- Sets of nodes ------------------------------------------------------------------------------------------------------------ */

bool sim_nodes_have(const struct sim_nodes *nodes, const struct sim_graph_node *node)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (nodes->at[i] == node)
            return true;
    return false;
}

bool sim_nodes_put(struct sim_nodes *nodes, CUgraphNode node)
{
    if (sim_nodes_have(nodes, node))
        return true;
    if (nodes->count == nodes->room) {
        size_t room = nodes->room ? 2 * nodes->room : 4;
        CUgraphNode *grown = realloc(nodes->at, room * sizeof(CUgraphNode));
        if (!grown)
            return false;
        nodes->at = grown;
        nodes->room = room;
    }
    nodes->at[nodes->count++] = node;
    return true;
}

void sim_nodes_take(struct sim_nodes *nodes, const struct sim_graph_node *node)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (nodes->at[i] == node)
            nodes->at[i--] = nodes->at[--nodes->count];
}

void sim_nodes_clear(struct sim_nodes *nodes)
{
    free(nodes->at);
    *nodes = (struct sim_nodes){0};
}

bool sim_nodes_in(CUgraph graph, const CUgraphNode *nodes, size_t count)
{
    if (count && !nodes)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!sim_marked(nodes[i], MARK_NODE) || nodes[i]->graph != graph)
            return false;
    return true;
}

/* --- Making and ending ---------------------------------------------------------------------------------------------------------- */

CUgraph sim_graph_new(void)
{
    CUgraph graph = sim_object_new(MARK_GRAPH, sizeof *graph);
    if (graph)
        graph->id = next_id++;
    return graph;
}

CUgraphNode sim_node_add(CUgraph graph, enum sim_node_type type, const CUgraphNode *after, size_t count, CUresult *error)
{
    *error = CUDA_ERROR_INVALID_VALUE;
    if (!sim_nodes_in(graph, after, count))
        return NULL;
    *error = CUDA_ERROR_OUT_OF_MEMORY;
    CUgraphNode node = sim_object_new(MARK_NODE, sizeof *node);
    if (!node)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!sim_nodes_put(&node->after, after[i])) {
            sim_nodes_clear(&node->after);
            sim_object_free(node);
            return NULL;
        }
    node->type = type;
    node->id = next_id++;
    node->graph = graph;
    node->previous = graph->last;
    *(graph->last ? &graph->last->next : &graph->first) = node;
    graph->last = node;
    graph->count++;
    *error = CUDA_SUCCESS;
    return node;
}

void sim_node_delete(CUgraphNode node)
{
    CUgraph graph = node->graph;
    for (CUgraphNode other = graph->first; other; other = other->next)
        sim_nodes_take(&other->after, node);
    *(node->previous ? &node->previous->next : &graph->first) = node->next;
    *(node->next ? &node->next->previous : &graph->last) = node->previous;
    graph->count--;
    if (node->type == NODE_VALUES)
        free(node->work.values.list);
    if (node->child)
        sim_graph_delete(node->child);
    if (node->block) {
        graph->allocations--;
        sim_graph_block_leave(node->block);
    }
    sim_nodes_clear(&node->after);
    sim_object_free(node);
}

void sim_graph_delete(CUgraph graph)
{
    while (graph->last)
        sim_node_delete(graph->last);
    sim_graph_give_back(graph);
    sim_object_free(graph);
}

/* --- Order and copies --------------------------------------------------------------------------------------------------------------- */

CUgraphNode *sim_graph_order(CUgraph graph)
{
    CUgraphNode *order = malloc((graph->count + 1) * sizeof(CUgraphNode));
    size_t done = 0, before = 1;
    for (CUgraphNode node = graph->first; node; node = node->next)
        node->place = SIZE_MAX;
    while (order && done < graph->count && done != before) {
        before = done;
        for (CUgraphNode node = graph->first; node; node = node->next) {
            bool ready = node->place == SIZE_MAX;
            for (size_t i = 0; i < node->after.count && ready; i++)
                ready = node->after.at[i]->place != SIZE_MAX;
            if (ready) {
                node->place = done;
                order[done++] = node;
            }
        }
    }
    if (order && done < graph->count) {
        free(order);
        return NULL;
    }
    return order;
}

static CUgraphNode copy_node(CUgraph copy, const struct sim_graph_node *node, CUgraphNode const *made, CUresult *error)
{
    CUgraphNode twin = sim_node_add(copy, node->type, NULL, 0, error);
    if (!twin)
        return NULL;
    twin->origin = node->id;
    twin->disabled = node->disabled;
    *error = sim_node_take_over(twin, node);
    for (size_t i = 0; i < node->after.count && *error == CUDA_SUCCESS; i++)
        if (!sim_nodes_put(&twin->after, made[node->after.at[i]->place]))
            *error = CUDA_ERROR_OUT_OF_MEMORY;
    return *error == CUDA_SUCCESS ? twin : NULL;
}

CUgraph sim_graph_copy(CUgraph graph, CUresult *error)
{
    CUgraphNode *order = sim_graph_order(graph);
    CUgraphNode *made = calloc(graph->count + 1, sizeof(CUgraphNode));
    CUgraph copy = order && made ? sim_graph_new() : NULL;
    *error = order ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; copy && i < graph->count; i++)
        if (!(made[i] = copy_node(copy, order[i], made, error))) {
            sim_graph_delete(copy);
            copy = NULL;
        }
    if (copy && (*error = sim_graph_lend_all(copy, graph)) != CUDA_SUCCESS) {
        sim_graph_delete(copy);
        copy = NULL;
    }
    if (copy)
        copy->origin = graph->id;
    free(order);
    free(made);
    return copy;
}

CUgraphNode sim_graph_find(CUgraph graph, uint64_t origin)
{
    for (CUgraphNode node = graph->first; node; node = node->next)
        if (node->origin == origin)
            return node;
    return NULL;
}

/* --- Graphs: the calls ------------------------------------------------------------------------------------------------------------- */

#define ENTER_GRAPH(graph, valid)                                                                                                          \
    SIM_ENTER();                                                                                                                           \
    if (!sim_marked(graph, MARK_GRAPH) || !(valid))                                                                                        \
    return sim_driver_leave(CUDA_ERROR_INVALID_VALUE)

CUresult cuGraphCreate(CUgraph *graph, unsigned flags)
{
    SIM_ENTER();
    if (!graph || flags)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *graph = sim_graph_new();
    return sim_driver_leave(*graph ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    ENTER_GRAPH(graph, !graph->owner);
    sim_graph_delete(graph);
    return sim_user_objects_leave(CUDA_SUCCESS);
}

CUresult cuGraphClone(CUgraph *copy, CUgraph graph)
{
    ENTER_GRAPH(graph, copy);
    if (graph->allocations)
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    CUresult result;
    *copy = sim_graph_copy(graph, &result);
    return sim_driver_leave(result);
}

CUresult cuGraphNodeFindInClone(CUgraphNode *found, CUgraphNode node, CUgraph clone)
{
    ENTER_GRAPH(clone, found && sim_marked(node, MARK_NODE));
    *found = sim_graph_find(clone, node->id);
    return sim_driver_leave(*found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphDestroyNode(CUgraphNode node)
{
    SIM_ENTER();
    if (!sim_marked(node, MARK_NODE))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (node->block) /* the graph frees what it allocates */
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    sim_node_delete(node);
    return sim_user_objects_leave(CUDA_SUCCESS);
}

/* --- Lists: with no room given, how many there are; else as many as there is room for, and the rest of the room empty ------------- */

struct list {
    void *out[2]; /* CUgraphNode; the second list has the same length */
    size_t room, count;
};

static void list_put(struct list *list, CUgraphNode first, CUgraphNode second)
{
    CUgraphNode put[2] = {first, second};
    for (int i = 0; i < 2; i++)
        if (list->out[i] && list->count < list->room)
            ((CUgraphNode *)list->out[i])[list->count] = put[i];
    list->count++;
}

static CUresult list_end(struct list *list, size_t *count)
{
    bool given = list->out[0] || list->out[1];
    for (size_t at = list->count; at < list->room; at++)
        list_put(&(struct list){{list->out[0], list->out[1]}, list->room, at}, NULL, NULL);
    *count = given && list->count > list->room ? list->room : list->count;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    ENTER_GRAPH(graph, count);
    struct list list = {{nodes, NULL}, nodes ? *count : 0, 0};
    for (CUgraphNode node = graph->first; node; node = node->next)
        list_put(&list, node, NULL);
    return list_end(&list, count);
}

CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    ENTER_GRAPH(graph, count);
    struct list list = {{nodes, NULL}, nodes ? *count : 0, 0};
    for (CUgraphNode node = graph->first; node; node = node->next)
        if (!node->after.count)
            list_put(&list, node, NULL);
    return list_end(&list, count);
}

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
    ENTER_GRAPH(graph, count && !from == !to);
    struct list list = {{from, to}, from ? *count : 0, 0};
    for (CUgraphNode node = graph->first; node; node = node->next)
        for (size_t i = 0; i < node->after.count; i++)
            list_put(&list, node->after.at[i], node);
    return list_end(&list, count);
}

CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *nodes, size_t *count)
{
    SIM_ENTER();
    if (!sim_marked(node, MARK_NODE) || !count)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct list list = {{nodes, NULL}, nodes ? *count : 0, 0};
    for (size_t i = 0; i < node->after.count; i++)
        list_put(&list, node->after.at[i], NULL);
    return list_end(&list, count);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *nodes, size_t *count)
{
    SIM_ENTER();
    if (!sim_marked(node, MARK_NODE) || !count)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct list list = {{nodes, NULL}, nodes ? *count : 0, 0};
    for (CUgraphNode other = node->graph->first; other; other = other->next)
        if (sim_nodes_have(&other->after, node))
            list_put(&list, other, NULL);
    return list_end(&list, count);
}

/* Edges of other kinds need kernels that say when they have come so far: none do here. */
bool sim_edges_plain(const CUgraphEdgeData *edges, size_t count)
{
    static const CUgraphEdgeData plain;
    for (size_t i = 0; edges && i < count; i++)
        if (memcmp(&edges[i], &plain, sizeof plain))
            return false;
    return true;
}

static CUresult plain_edges(CUresult result, CUgraphEdgeData *edges, size_t room)
{
    if (result == CUDA_SUCCESS && edges)
        memset(edges, 0, room * sizeof *edges);
    return result;
}

CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges, size_t *count)
{
    size_t room = count ? *count : 0;
    return plain_edges(cuGraphGetEdges(graph, from, to, count), edges, room);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *edges, size_t *count)
{
    size_t room = count ? *count : 0;
    return plain_edges(cuGraphNodeGetDependencies(node, nodes, count), edges, room);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *edges, size_t *count)
{
    size_t room = count ? *count : 0;
    return plain_edges(cuGraphNodeGetDependentNodes(node, nodes, count), edges, room);
}

static CUresult check_edges(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count, bool there)
{
    if (!sim_nodes_in(graph, from, count) || !sim_nodes_in(graph, to, count))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        if (from[i] == to[i] || sim_nodes_have(&to[i]->after, from[i]) != there)
            return CUDA_ERROR_INVALID_VALUE;
        else if (graph->allocations && (from[i]->block || to[i]->block) && there)
            return CUDA_ERROR_NOT_SUPPORTED;
    return CUDA_SUCCESS;
}

static CUresult remove_edges(const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sim_nodes_take(&to[i]->after, from[i]);
    return CUDA_SUCCESS;
}

CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
    ENTER_GRAPH(graph, true);
    CUresult result = check_edges(graph, from, to, count, false);
    for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
        if (!sim_nodes_put(&to[i]->after, from[i]))
            result = CUDA_ERROR_OUT_OF_MEMORY;
    CUgraphNode *order = result == CUDA_SUCCESS ? sim_graph_order(graph) : NULL;
    if (result == CUDA_SUCCESS && !order) { /* they would make a circle */
        remove_edges(from, to, count);
        result = CUDA_ERROR_INVALID_VALUE;
    }
    free(order);
    return sim_driver_leave(result);
}

CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *edges, size_t count)
{
    return sim_edges_plain(edges, count) ? cuGraphAddDependencies(graph, from, to, count) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
    ENTER_GRAPH(graph, true);
    CUresult result = check_edges(graph, from, to, count, true);
    return sim_driver_leave(result == CUDA_SUCCESS ? remove_edges(from, to, count) : result);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, const CUgraphEdgeData *edges,
                                      size_t count)
{
    return sim_edges_plain(edges, count) ? cuGraphRemoveDependencies(graph, from, to, count) : CUDA_ERROR_INVALID_VALUE;
}
