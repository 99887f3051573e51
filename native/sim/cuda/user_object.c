/* SPDX-License-Identifier: Apache-2.0
 *
 * User objects: what a program lends to graphs, and wants back when the last graph that uses it is gone.
 *
 * Invariant: an object is destroyed once, by its own function, after its last reference went; that function runs outside of
 * the driver lock.
 */
#include "graph.h"

#include <stdlib.h>

struct sim_user_object {
    uint32_t mark;
    void *data;
    CUhostFn destroy;
    unsigned long references;
    struct sim_user_object *next; /* to be destroyed */
};

/* References of one graph to one object. */
struct sim_lent {
    CUuserObject object;
    unsigned count;
    struct sim_lent *next;
};

static struct sim_user_object *ended;

CUresult sim_user_objects_leave(CUresult result)
{
    struct sim_user_object *object = ended;
    ended = NULL;
    sim_driver_leave(result);
    for (; object; object = object->next)
        object->destroy(object->data);
    return result;
}

static void release(CUuserObject object, unsigned count)
{
    object->references -= count;
    if (object->references)
        return;
    object->mark = 0; /* its memory stays, for the list */
    object->next = ended;
    ended = object;
}

static CUresult lend(CUgraph graph, CUuserObject object, unsigned count)
{
    struct sim_lent *lent = graph->lent;
    while (lent && lent->object != object)
        lent = lent->next;
    if (!lent) {
        lent = calloc(1, sizeof *lent);
        if (!lent)
            return CUDA_ERROR_OUT_OF_MEMORY;
        lent->object = object;
        lent->next = graph->lent;
        graph->lent = lent;
    }
    lent->count += count;
    return CUDA_SUCCESS;
}

CUresult sim_graph_lend_all(CUgraph graph, CUgraph from)
{
    for (const struct sim_lent *lent = from->lent; lent; lent = lent->next) {
        CUresult result = lend(graph, lent->object, 1);
        if (result != CUDA_SUCCESS)
            return result;
        lent->object->references++;
    }
    return CUDA_SUCCESS;
}

void sim_graph_give_back(CUgraph graph)
{
    while (graph->lent) {
        struct sim_lent *lent = graph->lent;
        graph->lent = lent->next;
        release(lent->object, lent->count);
        free(lent);
    }
}

CUresult cuUserObjectCreate(CUuserObject *object, void *data, CUhostFn destroy, unsigned references, unsigned flags)
{
    SIM_ENTER();
    if (!object || !destroy || !references || references > INT32_MAX || flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUuserObject made = calloc(1, sizeof *made);
    if (!made)
        return sim_driver_leave(CUDA_ERROR_OUT_OF_MEMORY);
    *made = (struct sim_user_object){MARK_USER_OBJECT, data, destroy, references, NULL};
    *object = made;
    return sim_driver_leave(CUDA_SUCCESS);
}

static bool is_valid(CUuserObject object, unsigned count)
{
    return sim_marked(object, MARK_USER_OBJECT) && count && count <= INT32_MAX;
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned count)
{
    SIM_ENTER();
    if (!is_valid(object, count))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    object->references += count;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned count)
{
    SIM_ENTER();
    if (!is_valid(object, count) || object->references < count)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    release(object, count);
    return sim_user_objects_leave(CUDA_SUCCESS);
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned count, unsigned flags)
{
    SIM_ENTER();
    if (!sim_marked(graph, MARK_GRAPH) || !is_valid(object, count) || flags > CU_GRAPH_USER_OBJECT_MOVE)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    CUresult result = lend(graph, object, count);
    if (result == CUDA_SUCCESS && !flags) /* else the caller's own references go to the graph */
        object->references += count;
    return sim_driver_leave(result);
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned count)
{
    SIM_ENTER();
    if (!sim_marked(graph, MARK_GRAPH) || !is_valid(object, count))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct sim_lent **at = &graph->lent;
    while (*at && (*at)->object != object)
        at = &(*at)->next;
    struct sim_lent *lent = *at;
    if (!lent || lent->count < count)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    lent->count -= count;
    if (!lent->count) {
        *at = lent->next;
        free(lent);
    }
    release(object, count);
    return sim_user_objects_leave(CUDA_SUCCESS);
}
