/* SPDX-License-Identifier: Apache-2.0
 *
 * Executable graphs: which kernels are in them. Written under a lock where graphs are made and changed; launches read one word.
 */
#include "graph.h"

#include "../core/cost.h"
#include "graph_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define EXECS 1024 /* executable graphs at a time; one beyond them is known by its address */
#define PROBES 16
#define DEPTH_MAX 8 /* of graphs within graphs */

enum { NODE_KERNEL = 0, NODE_GRAPH = 4, NODE_CONDITIONAL = 13 };

struct part {
    CUgraphNode node;
    CUgraphNode within; /* the child node of the outermost graph that it is in; NULL: it is in that graph itself */
    uint64_t key;
    bool is_off;
};

struct exec {
    _Atomic uintptr_t handle; /* 0: unused */
    _Atomic uint64_t key;
    struct part *parts; /* under `changing` */
    size_t count;
    size_t room;
};

static struct exec execs[EXECS];
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

static unsigned place_of(uintptr_t handle)
{
    return (unsigned)((handle * 0x9e3779b97f4a7c15ULL) >> 40) % EXECS;
}

static struct exec *find(CUgraphExec handle)
{
    for (unsigned i = 0; i < PROBES; i++) {
        struct exec *exec = &execs[(place_of((uintptr_t)handle) + i) % EXECS];
        /* Acquire pairs with the release in publish: who finds the handle finds its key. */
        if (atomic_load_explicit(&exec->handle, memory_order_acquire) == (uintptr_t)handle) {
            return exec;
        }
    }
    return NULL;
}

uint64_t graph_key(CUgraphExec handle)
{
    const struct exec *exec = handle != NULL ? find(handle) : NULL;
    return exec != NULL ? atomic_load_explicit(&exec->key, memory_order_relaxed) : mica_cost_key((uintptr_t)handle, 0, 0);
}

void graph_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    changing = fresh;
    memset((void *)execs, 0, sizeof execs); /* the parts leak, once: free may not be called in a child of a thread that was inside it */
}

/* --- What a graph is made of ------------------------------------------------------------------------------------------ */

static uint64_t kernel_key(const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    uintptr_t function = kernel->func != NULL ? (uintptr_t)kernel->func : (uintptr_t)kernel->kern;
    uint64_t threads = (uint64_t)kernel->blockDimX * kernel->blockDimY * kernel->blockDimZ;
    return mica_cost_key(function, (uint64_t)kernel->gridDimX * kernel->gridDimY * kernel->gridDimZ, threads ^ (uint64_t)kernel->sharedMemBytes << 32);
}

static void add(struct exec *exec, struct part part)
{
    if (exec->count == exec->room) {
        size_t room = exec->room != 0 ? exec->room * 2 : 16;
        struct part *grown = realloc(exec->parts, room * sizeof *grown);
        if (grown == NULL) {
            return; /* the graph is costed without this part, and corrected when it is measured */
        }
        exec->parts = grown;
        exec->room = room;
    }
    exec->parts[exec->count++] = part;
}

static void add_graph(struct exec *exec, CUgraph graph, CUgraphNode within, int depth);

static void add_bodies(struct exec *exec, CUgraphNode node, CUgraphNode within, int depth)
{
    CUgraphNodeParams params = {.type = 0};
    if (driver.cuGraphNodeGetParams == NULL || driver.cuGraphNodeGetParams(node, &params) != CUDA_SUCCESS || params.type != NODE_CONDITIONAL ||
        params.of.conditional.graphs == NULL) {
        return;
    }
    for (unsigned int i = 0; i < params.of.conditional.size; i++) {
        add_graph(exec, params.of.conditional.graphs[i], within, depth);
    }
}

static void add_node(struct exec *exec, CUgraphNode node, CUgraphNode within, int depth)
{
    int type = -1;
    CUgraph child = NULL;
    CUDA_KERNEL_NODE_PARAMS kernel = {.func = NULL};
    if (driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) {
        return;
    }
    CUgraphNode outer = within != NULL ? within : node;
    if (type == NODE_KERNEL) {
        CUresult result = driver.cuGraphKernelNodeGetParams_v2 != NULL ? driver.cuGraphKernelNodeGetParams_v2(node, &kernel)
                          : driver.cuGraphKernelNodeGetParams != NULL  ? driver.cuGraphKernelNodeGetParams(node, &kernel)
                                                                       : CUDA_ERROR_NOT_FOUND;
        if (result == CUDA_SUCCESS) {
            add(exec, (struct part){.node = node, .within = within, .key = kernel_key(&kernel)});
        }
    } else if (type == NODE_GRAPH && driver.cuGraphChildGraphNodeGetGraph != NULL && driver.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS) {
        add_graph(exec, child, outer, depth + 1);
    } else if (type == NODE_CONDITIONAL) {
        add_bodies(exec, node, outer, depth + 1);
    }
}

static void add_graph(struct exec *exec, CUgraph graph, CUgraphNode within, int depth)
{
    size_t count = 0;
    if (graph == NULL || depth > DEPTH_MAX || driver.cuGraphGetNodes == NULL || driver.cuGraphNodeGetType == NULL ||
        driver.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0) {
        return;
    }
    CUgraphNode *nodes = calloc(count, sizeof *nodes);
    if (nodes != NULL && driver.cuGraphGetNodes(graph, nodes, &count) == CUDA_SUCCESS) {
        for (size_t i = 0; i < count; i++) {
            add_node(exec, nodes[i], within, depth);
        }
    }
    free(nodes);
}

/* The parts' keys make the graph's, in whatever order they stand; and their costs, where all are known, the estimate to begin with. */
static void publish(struct exec *exec, CUgraphExec handle)
{
    uint64_t sum_keys = 0;
    uint64_t sum_ns = 0;
    bool all_known = true;
    size_t on = 0;
    for (size_t i = 0; i < exec->count; i++) {
        const struct part *part = &exec->parts[i];
        if (part->is_off) {
            continue;
        }
        const struct mica_cost *cost = mica_cost_find(part->key);
        uint64_t estimate_ns = mica_cost_estimate(cost);
        all_known &= !mica_cost_is_unknown(cost);
        sum_keys += mica_cost_key(part->key, 1, 1);
        sum_ns += estimate_ns;
        on++;
    }
    uint64_t key = mica_cost_key(sum_keys, on, 0x67726170680aULL);
    if (all_known) {
        mica_cost_assume(mica_cost_find(key), sum_ns);
    }
    atomic_store_explicit(&exec->key, key, memory_order_relaxed);
    atomic_store_explicit(&exec->handle, (uintptr_t)handle, memory_order_release); /* pairs with the acquire in find */
}

/* --- Their life --------------------------------------------------------------------------------------------------------- */

static struct exec *unused(CUgraphExec handle)
{
    for (unsigned i = 0; i < PROBES; i++) {
        struct exec *exec = &execs[(place_of((uintptr_t)handle) + i) % EXECS];
        if (atomic_load_explicit(&exec->handle, memory_order_relaxed) == 0) {
            return exec;
        }
    }
    return NULL;
}

static CUresult made(CUresult result, const CUgraphExec *handle, CUgraph graph)
{
    if (result != CUDA_SUCCESS || handle == NULL || *handle == NULL || mica_attach_state() != MICA_INSIDE) {
        return result;
    }
    pthread_mutex_lock(&changing);
    struct exec *exec = find(*handle);
    exec = exec != NULL ? exec : unused(*handle);
    if (exec != NULL) {
        exec->count = 0;
        add_graph(exec, graph, NULL, 0);
        publish(exec, *handle);
    }
    pthread_mutex_unlock(&changing);
    graph_memory_made(*handle, graph);
    return result;
}

static CUresult updated(CUresult result, CUgraphExec handle, CUgraph graph)
{
    return find(handle) != NULL ? made(result, &handle, graph) : result;
}

/* Change the parts of an executable graph that are the node itself, or lie within it. */
static CUresult changed(CUresult result, CUgraphExec handle, CUgraphNode node, const uint64_t *key, const unsigned int *enabled)
{
    struct exec *exec = result == CUDA_SUCCESS && handle != NULL ? find(handle) : NULL;
    if (exec == NULL) {
        return result;
    }
    pthread_mutex_lock(&changing);
    for (size_t i = 0; i < exec->count; i++) {
        struct part *part = &exec->parts[i];
        if (part->node == node && key != NULL) {
            part->key = *key;
        }
        if ((part->node == node || part->within == node) && enabled != NULL) {
            part->is_off = *enabled == 0;
        }
    }
    publish(exec, handle);
    pthread_mutex_unlock(&changing);
    return result;
}

static CUresult replaced(CUresult result, CUgraphExec handle, CUgraphNode node, CUgraph child)
{
    struct exec *exec = result == CUDA_SUCCESS && handle != NULL ? find(handle) : NULL;
    if (exec == NULL) {
        return result;
    }
    pthread_mutex_lock(&changing);
    size_t kept = 0;
    for (size_t i = 0; i < exec->count; i++) {
        if (exec->parts[i].within != node) {
            exec->parts[kept++] = exec->parts[i];
        }
    }
    exec->count = kept;
    add_graph(exec, child, node, 1);
    publish(exec, handle);
    pthread_mutex_unlock(&changing);
    return result;
}

/* --- Hooks ---------------------------------------------------------------------------------------------------------------- */

/* A hook that has the driver do it first, and follows. */
#define FOLLOW(name, params, args, after) \
    EXPORT CUresult name params           \
    {                                     \
        if (door() == DOOR_CLOSED) {      \
            return CUDA_ERROR_NOT_PERMITTED; \
        }                                 \
        CUresult result = below_##name args; \
        return after;                     \
    }

FOLLOW(cuGraphInstantiate, (CUgraphExec * exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes), (exec, graph, node, log, bytes),
       made(result, exec, graph))
FOLLOW(cuGraphInstantiate_v2, (CUgraphExec * exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes), (exec, graph, node, log, bytes),
       made(result, exec, graph))
FOLLOW(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags), (exec, graph, flags), made(result, exec, graph))
FOLLOW(cuGraphInstantiateWithParams, (CUgraphExec * exec, CUgraph graph, void *params), (exec, graph, params), made(result, exec, graph))
FOLLOW(cuGraphInstantiateWithParams_ptsz, (CUgraphExec * exec, CUgraph graph, void *params), (exec, graph, params), made(result, exec, graph))
FOLLOW(cuGraphExecUpdate, (CUgraphExec exec, CUgraph graph, CUgraphNode *node, int *answer), (exec, graph, node, answer), updated(result, exec, graph))
FOLLOW(cuGraphExecUpdate_v2, (CUgraphExec exec, CUgraph graph, void *answer), (exec, graph, answer), updated(result, exec, graph))
FOLLOW(cuGraphExecChildGraphNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraph child), (exec, node, child), replaced(result, exec, node, child))
FOLLOW(cuGraphNodeSetEnabled, (CUgraphExec exec, CUgraphNode node, unsigned int enabled), (exec, node, enabled),
       changed(result, exec, node, NULL, &enabled))

static CUresult kernel_set(CUresult result, CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel, bool is_old)
{
    if (result != CUDA_SUCCESS || kernel == NULL) {
        return result;
    }
    CUDA_KERNEL_NODE_PARAMS copy = {.func = NULL};
    /* The older form ends before `kern`. */
    memcpy(&copy, kernel, is_old ? offsetof(CUDA_KERNEL_NODE_PARAMS, kern) : sizeof copy);
    uint64_t key = kernel_key(&copy);
    return changed(result, exec, node, &key, NULL);
}

FOLLOW(cuGraphExecKernelNodeSetParams, (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel), (exec, node, kernel),
       kernel_set(result, exec, node, kernel, true))
FOLLOW(cuGraphExecKernelNodeSetParams_v2, (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *kernel), (exec, node, kernel),
       kernel_set(result, exec, node, kernel, false))
FOLLOW(cuGraphExecNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params), (exec, node, params),
       params != NULL && params->type == NODE_KERNEL ? kernel_set(result, exec, node, &params->of.kernel, false) : result)

EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle)
{
    if (!driver_load()) {
        return CUDA_ERROR_NO_DEVICE;
    }
    /* Before the driver: afterwards another thread may be given the same handle. A launch in between is one of a graph that is being destroyed. */
    pthread_mutex_lock(&changing);
    struct exec *exec = handle != NULL ? find(handle) : NULL;
    if (exec != NULL) {
        atomic_store_explicit(&exec->handle, 0, memory_order_release);
        free(exec->parts);
        exec->parts = NULL;
        exec->count = exec->room = 0;
    }
    pthread_mutex_unlock(&changing);
    graph_memory_gone(handle);
    return below_cuGraphExecDestroy(handle);
}
