/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake driver's graphs, copies and legacy launches: lists of nodes that a test makes, and calls that do nothing.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0
#define NODES_MAX 16

enum { KERNEL = 0, GRAPH = 4, ALLOCATION = 10 };

struct allocation {
    unsigned char pool[88];
    const void *access;
    size_t access_count, bytes;
    uint64_t address;
};

struct kernel {
    void *function;
    unsigned grid[3], block[3], shared;
    void **params, **extra;
    void *kernel, *context;
};

struct graph;
struct node {
    int type;
    struct kernel kernel;
    struct graph *child;
    struct allocation allocation;
};

static struct graph {
    size_t count;
    struct node nodes[NODES_MAX];
} graphs[NODES_MAX];
static size_t graph_count;
static const struct graph *executables[NODES_MAX]; /* a handle is a place in it */
static uint64_t graph_reserved;
static size_t executable_count;

PUBLIC int cuGraphCreate(void **graph, unsigned flags)
{
    (void)flags;
    graphs[graph_count].count = 0;
    *graph = &graphs[graph_count++];
    return SUCCESS;
}

PUBLIC int cuGraphAddKernelNode_v2(void **node, void *graph, const void *after, size_t count, const struct kernel *kernel)
{
    (void)after, (void)count;
    struct graph *to = graph;
    to->nodes[to->count] = (struct node){.type = KERNEL, .kernel = *kernel};
    *node = &to->nodes[to->count++];
    return SUCCESS;
}

PUBLIC int cuGraphAddChildGraphNode(void **node, void *graph, const void *after, size_t count, void *child)
{
    (void)after, (void)count;
    struct graph *to = graph;
    to->nodes[to->count] = (struct node){.type = GRAPH, .child = child};
    *node = &to->nodes[to->count++];
    return SUCCESS;
}

PUBLIC int cuGraphGetNodes(void *graph, void **nodes, size_t *count)
{
    struct graph *of = graph;
    for (size_t i = 0; nodes != NULL && i < of->count; i++) {
        nodes[i] = &of->nodes[i];
    }
    *count = of->count;
    return SUCCESS;
}

PUBLIC int cuGraphNodeGetType(void *node, int *type)
{
    *type = ((struct node *)node)->type;
    return SUCCESS;
}

PUBLIC int cuGraphKernelNodeGetParams_v2(void *node, struct kernel *kernel)
{
    *kernel = ((struct node *)node)->kernel;
    return SUCCESS;
}

PUBLIC int cuGraphChildGraphNodeGetGraph(void *node, void **graph)
{
    *graph = ((struct node *)node)->child;
    return SUCCESS;
}

PUBLIC int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags)
{
    (void)flags;
    executables[executable_count % NODES_MAX] = graph;
    *executable = &executables[executable_count++ % NODES_MAX];
    return SUCCESS;
}

/* --- Memory of graphs: kept from a graph's first launch until it is trimmed ---------------------------------------------------- */

PUBLIC int cuGraphAddMemAllocNode(void **node, void *graph, const void *after, size_t count, struct allocation *allocation)
{
    (void)after, (void)count;
    struct graph *to = graph;
    allocation->address = 0x500000000000ULL;
    to->nodes[to->count] = (struct node){.type = ALLOCATION, .allocation = *allocation};
    *node = &to->nodes[to->count++];
    return SUCCESS;
}

PUBLIC int cuGraphMemAllocNodeGetParams(void *node, struct allocation *allocation)
{
    *allocation = ((struct node *)node)->allocation;
    return SUCCESS;
}

void fake_graph_launched(const void *executable)
{
    const struct graph *const *place = executable;
    uint64_t bytes = 0;
    if (place < executables || place >= executables + NODES_MAX || *place == NULL) {
        return;
    }
    for (size_t i = 0; i < (*place)->count; i++) {
        bytes += (*place)->nodes[i].type == ALLOCATION ? (*place)->nodes[i].allocation.bytes : 0;
    }
    graph_reserved = bytes > graph_reserved ? bytes : graph_reserved;
}

PUBLIC int cuDeviceGetGraphMemAttribute(int device, int attribute, uint64_t *value)
{
    (void)device;
    *value = graph_reserved;
    return attribute == 2 ? SUCCESS : 1;
}

PUBLIC int cuDeviceGraphMemTrim(int device)
{
    (void)device;
    graph_reserved = 0;
    return SUCCESS;
}

static char streams[NODES_MAX];
static size_t stream_count;

PUBLIC int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority)
{
    (void)flags, (void)priority;
    *stream = &streams[stream_count++ % NODES_MAX];
    return SUCCESS;
}

PUBLIC int cuModuleGetFunction(void **function, void *module, const char *name)
{
    (void)name;
    *function = module; /* the test names the function that it wants */
    return SUCCESS;
}

#define DOES_NOTHING(name, params, unused) \
    PUBLIC int name params                 \
    {                                      \
        unused;                            \
        return SUCCESS;                    \
    }

DOES_NOTHING(cuStreamDestroy_v2, (void *stream), (void)stream)
DOES_NOTHING(cuGraphExecDestroy, (void *executable), (void)executable)
DOES_NOTHING(cuGraphExecUpdate_v2, (void *executable, void *graph, void *answer), ((void)executable, (void)graph, (void)answer))
DOES_NOTHING(cuGraphNodeSetEnabled, (void *executable, void *node, unsigned enabled), ((void)executable, (void)node, (void)enabled))
DOES_NOTHING(cuGraphExecKernelNodeSetParams_v2, (void *executable, void *node, const struct kernel *kernel), ((void)executable, (void)node, (void)kernel))
DOES_NOTHING(cuGraphExecChildGraphNodeSetParams, (void *executable, void *node, void *child), ((void)executable, (void)node, (void)child))
DOES_NOTHING(cuFuncSetBlockShape, (void *function, int x, int y, int z), ((void)function, (void)x, (void)y, (void)z))
DOES_NOTHING(cuLaunchCooperativeKernelMultiDevice, (void *launches, unsigned count, unsigned flags), ((void)launches, (void)count, (void)flags))
DOES_NOTHING(cuMemcpyHtoD_v2, (uint64_t to, const void *from, size_t bytes), ((void)to, (void)from, (void)bytes))
DOES_NOTHING(cuMemcpy2D_v2, (const void *copy), (void)copy)
DOES_NOTHING(cuMemcpy3DAsync_v2, (const void *copy, void *stream), ((void)copy, (void)stream))
DOES_NOTHING(cuMemsetD16Async, (uint64_t to, unsigned short value, size_t count, void *stream), ((void)to, (void)value, (void)count, (void)stream))
DOES_NOTHING(cuMemsetD2D32_v2, (uint64_t to, size_t pitch, unsigned value, size_t width, size_t height),
             ((void)to, (void)pitch, (void)value, (void)width, (void)height))
DOES_NOTHING(cuMemcpyBatchAsync, (uint64_t * to, uint64_t *from, size_t *sizes, size_t count, void *a, size_t *i, size_t n, size_t *f, void *stream),
             ((void)to, (void)from, (void)sizes, (void)count, (void)a, (void)i, (void)n, (void)f, (void)stream))
