/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "graph_memory.h"

#include "../core/live.h"
#include "../core/map.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define ORDINALS_MAX 64
#define DEPTH_MAX 8
#define GRANULE_BYTES (2ULL << 20)

/* What the driver keeps for this process's graphs, by device ordinal. Invariant: charged = reserved, as of the last settling, + pending. */
static struct {
    struct mica_device *device;
    uint64_t charged;
    uint64_t pending; /* reserved for launches that are on their way */
    uint64_t trims;
    bool is_over; /* the driver has reserved more than the slice may have: no further graph that allocates is launched until that has changed */
} held[ORDINALS_MAX];
static struct mica_map execs; /* handle -> bytes its nodes allocate | 1 + the device's trims when it was launched last */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool is_used; /* a graph that allocates has been made */

void graph_memory_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    memset(held, 0, sizeof held);
    mica_map_clear(&execs);
    atomic_store(&is_used, false);
}

/* --- What a graph allocates ------------------------------------------------------------------------------------------------- */

static uint64_t graph_bytes(CUgraph graph, int depth);

static uint64_t node_bytes(CUgraphNode node, int depth)
{
    int type = -1;
    CUgraph child = NULL;
    CUDA_MEM_ALLOC_NODE_PARAMS params;
    if (driver.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) {
        return 0;
    }
    if (type == CU_GRAPH_NODE_TYPE_GRAPH && driver.cuGraphChildGraphNodeGetGraph != NULL &&
        driver.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS) {
        return graph_bytes(child, depth + 1);
    }
    memset(&params, 0, sizeof params);
    if (type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || driver.cuGraphMemAllocNodeGetParams == NULL ||
        driver.cuGraphMemAllocNodeGetParams(node, &params) != CUDA_SUCCESS || params.bytesize > MICA_LIVE_BYTES_MAX) {
        return 0;
    }
    return (params.bytesize + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
}

static uint64_t graph_bytes(CUgraph graph, int depth)
{
    size_t count = 0;
    uint64_t bytes = 0;
    if (depth > DEPTH_MAX || driver.cuGraphGetNodes == NULL || driver.cuGraphNodeGetType == NULL ||
        driver.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0) {
        return 0;
    }
    size_t mapped_bytes = count * sizeof(CUgraphNode);
    CUgraphNode *nodes = mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (nodes == MAP_FAILED) {
        return 0;
    }
    if (driver.cuGraphGetNodes(graph, nodes, &count) == CUDA_SUCCESS) {
        for (size_t i = 0; i < count; i++) {
            bytes += node_bytes(nodes[i], depth);
        }
    }
    munmap(nodes, mapped_bytes);
    return bytes;
}

void graph_memory_made(CUgraphExec exec, CUgraph graph)
{
    uint64_t bytes = graph_bytes(graph, 0);
    if (bytes == 0 && !atomic_load_explicit(&is_used, memory_order_relaxed)) {
        return;
    }
    pthread_mutex_lock(&lock);
    struct mica_map_entry *entry = bytes != 0 ? mica_map_put(&execs, (uint64_t)(uintptr_t)exec) : NULL;
    if (entry != NULL) {
        entry->first = bytes;
        entry->second = 0;
        atomic_store_explicit(&is_used, true, memory_order_relaxed);
    } else {
        mica_map_remove(&execs, (uint64_t)(uintptr_t)exec);
    }
    pthread_mutex_unlock(&lock);
}

void graph_memory_gone(CUgraphExec exec)
{
    if (atomic_load_explicit(&is_used, memory_order_relaxed)) {
        pthread_mutex_lock(&lock);
        mica_map_remove(&execs, (uint64_t)(uintptr_t)exec);
        pthread_mutex_unlock(&lock);
    }
}

/* --- Charges (`lock` held) --------------------------------------------------------------------------------------------------- */

static void settle(CUdevice ordinal)
{
    uint64_t reserved = 0;
    struct mica_device *device = held[ordinal].device;
    if (device == NULL || driver.cuDeviceGetGraphMemAttribute == NULL ||
        driver.cuDeviceGetGraphMemAttribute(ordinal, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS) {
        return;
    }
    uint64_t wanted = reserved + held[ordinal].pending;
    uint64_t charged = held[ordinal].charged;
    if (wanted < charged) {
        mica_memory_refund(device, MICA_MEMORY_VRAM, charged - wanted);
        held[ordinal].charged = wanted;
    } else if (wanted > charged && mica_memory_charge(device, MICA_MEMORY_VRAM, wanted - charged) == MICA_GRANTED) {
        held[ordinal].charged = wanted;
    }
    held[ordinal].is_over = held[ordinal].charged < wanted;
}

void graph_memory_settle(void)
{
    if (!atomic_load_explicit(&is_used, memory_order_relaxed)) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (CUdevice i = 0; i < ORDINALS_MAX; i++) {
        if (held[i].charged != 0) {
            settle(i);
        }
    }
    pthread_mutex_unlock(&lock);
}

static CUresult reserve(CUdevice ordinal, struct mica_map_entry *entry, uint64_t *bytes)
{
    if (held[ordinal].is_over) {
        settle(ordinal);
    }
    *bytes = entry->second == held[ordinal].trims + 1 ? 0 : entry->first; /* what it took before is still there */
    CUresult result = held[ordinal].is_over ? CUDA_ERROR_OUT_OF_MEMORY
                                            : verdict_result(mica_memory_charge(held[ordinal].device, MICA_MEMORY_VRAM, *bytes));
    if (result == CUDA_SUCCESS) {
        held[ordinal].charged += *bytes;
        held[ordinal].pending += *bytes;
        entry->second = held[ordinal].trims + 1;
    }
    return result;
}

struct graph_memory graph_memory_begin(CUgraphExec exec, CUstream stream)
{
    struct graph_memory memory = {.result = CUDA_SUCCESS};
    struct context *context = atomic_load_explicit(&is_used, memory_order_relaxed) ? context_of_stream(stream) : NULL;
    if (context == NULL || context->device == NULL || context->ordinal < 0 || context->ordinal >= ORDINALS_MAX) {
        return memory;
    }
    pthread_mutex_lock(&lock);
    struct mica_map_entry *entry = mica_map_find(&execs, (uint64_t)(uintptr_t)exec);
    if (entry != NULL) {
        held[context->ordinal].device = context->device;
        memory.result = reserve(context->ordinal, entry, &memory.bytes);
        memory.context = memory.result == CUDA_SUCCESS && memory.bytes != 0 ? context : NULL;
    }
    pthread_mutex_unlock(&lock);
    return memory;
}

void graph_memory_end(const struct graph_memory *memory)
{
    if (memory->context == NULL) {
        return;
    }
    pthread_mutex_lock(&lock);
    held[memory->context->ordinal].pending -= memory->bytes;
    settle(memory->context->ordinal);
    pthread_mutex_unlock(&lock);
}

EXPORT CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    (void)door();
    CUresult result = below_cuDeviceGraphMemTrim(device);
    if (result == CUDA_SUCCESS && device >= 0 && device < ORDINALS_MAX) {
        pthread_mutex_lock(&lock);
        held[device].trims++;
        settle(device);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

/* An upload takes what the first launch would. */
static CUresult upload(CUgraphExec exec, CUstream stream, CUresult (*below)(CUgraphExec, CUstream))
{
    if (door() == DOOR_CLOSED) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    struct graph_memory memory = graph_memory_begin(exec, stream);
    CUresult result = memory.result == CUDA_SUCCESS ? below(exec, stream) : memory.result;
    graph_memory_end(&memory);
    return result;
}

EXPORT CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    return upload(exec, stream, below_cuGraphUpload);
}

EXPORT CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
    return upload(exec, stream, below_cuGraphUpload_ptsz);
}
