/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that graphs allocate. A node's addresses are given when it is made; memory comes behind them when the graph is
 * started, and goes when a graph or the program frees it. What went stays with the device, for any graph of this process,
 * until it is trimmed.
 *
 * Invariant: a block is there as long as nodes name it or it has memory; a device's reserve is what its blocks have and what
 * it keeps.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static struct sim_graph_block *blocks;

static struct {
    struct sim_physical *kept; /* by sim_physical.kept_next */
    uint64_t used_bytes, used_peak_bytes, reserved_bytes, reserved_peak_bytes;
} stores[SIM_DEVICES_MAX];

static void raise_to(uint64_t *peak, uint64_t now)
{
    if (*peak < now)
        *peak = now;
}

/* --- Blocks ------------------------------------------------------------------------------------------------------------------ */

struct sim_graph_block *sim_graph_block_new(int device, size_t bytes)
{
    struct sim_graph_block *block = bytes <= SIZE_MAX / 2 ? calloc(1, sizeof *block) : NULL;
    if (!block)
        return NULL;
    block->granule_bytes = (bytes + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE;
    block->address = sim_reservation_make(SPAN_GRAPH, block->granule_bytes, SIM_GRANULE, 0);
    if (!block->address) {
        free(block);
        return NULL;
    }
    block->bytes = bytes;
    block->device = device;
    block->nodes = 1;
    block->next = blocks;
    blocks = block;
    return block;
}

struct sim_graph_block *sim_graph_block_at(CUdeviceptr address)
{
    struct sim_graph_block *block = blocks;
    while (block && block->address != address)
        block = block->next;
    return block;
}

static void end_if_unused(struct sim_graph_block *block)
{
    struct sim_graph_block **at = &blocks;
    if (block->nodes || block->physical)
        return;
    while (*at != block)
        at = &(*at)->next;
    *at = block->next;
    sim_reservation_end(SPAN_GRAPH, block->address, block->granule_bytes);
    free(block);
}

void sim_graph_block_leave(struct sim_graph_block *block)
{
    block->nodes--;
    end_if_unused(block);
}

/* The smallest that is kept and large enough, or new memory. */
static CUresult find_memory(const struct sim_graph_block *block, struct sim_physical **found)
{
    static const CUmemAllocationProp pinned = {.type = CU_MEM_ALLOCATION_TYPE_PINNED};
    struct sim_physical **best = NULL;
    for (struct sim_physical **at = &stores[block->device].kept; *at; at = &(*at)->kept_next)
        if ((*at)->bytes >= block->granule_bytes && (!best || (*at)->bytes < (*best)->bytes))
            best = at;
    if (best) {
        *found = *best;
        *best = (*found)->kept_next;
        return CUDA_SUCCESS;
    }
    CUmemAllocationProp properties = pinned;
    properties.location = (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, block->device};
    CUresult result = sim_physical_new(block->device, block->granule_bytes, &properties, found);
    if (result == CUDA_SUCCESS) {
        (*found)->handles = 1;
        stores[block->device].reserved_bytes += block->granule_bytes;
        raise_to(&stores[block->device].reserved_peak_bytes, stores[block->device].reserved_bytes);
    }
    return result;
}

static void keep(struct sim_physical *physical)
{
    physical->kept_next = stores[physical->device].kept;
    stores[physical->device].kept = physical;
}

CUresult sim_graph_block_take(struct sim_graph_block *block)
{
    struct sim_physical *physical;
    if (block->physical)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = find_memory(block, &physical);
    if (result != CUDA_SUCCESS)
        return result;
    result = sim_reservation_map(SPAN_GRAPH, block->address, block->granule_bytes, physical, CU_MEM_ACCESS_READWRITE);
    if (result != CUDA_SUCCESS) {
        keep(physical);
        return result;
    }
    block->physical = physical;
    stores[block->device].used_bytes += block->bytes;
    raise_to(&stores[block->device].used_peak_bytes, stores[block->device].used_bytes);
    return CUDA_SUCCESS;
}

CUresult sim_graph_block_give(struct sim_graph_block *block)
{
    if (!block->physical)
        return CUDA_ERROR_INVALID_VALUE;
    sim_reservation_unmap(SPAN_GRAPH, block->address, block->granule_bytes);
    keep(block->physical);
    block->physical = NULL;
    stores[block->device].used_bytes -= block->bytes;
    end_if_unused(block);
    return CUDA_SUCCESS;
}

CUresult sim_graph_memory_free(CUdeviceptr address)
{
    struct sim_graph_block *block = sim_graph_block_at(address);
    return block ? sim_graph_block_give(block) : CUDA_ERROR_INVALID_VALUE;
}

/* --- Nodes ------------------------------------------------------------------------------------------------------------------------ */

CUresult sim_node_set_alloc(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *parameters)
{
    const CUmemPoolProps *pool = &parameters->pool;
    if (!parameters->bytes || pool->allocation_type != CU_MEM_ALLOCATION_TYPE_PINNED || pool->handle_types ||
        pool->location.type != CU_MEM_LOCATION_TYPE_DEVICE || !sim_visible_at(pool->location.id))
        return CUDA_ERROR_INVALID_VALUE;
    node->block = sim_graph_block_new(pool->location.id, parameters->bytes);
    if (!node->block)
        return CUDA_ERROR_OUT_OF_MEMORY;
    node->graph->allocations++;
    parameters->address = node->block->address;
    return CUDA_SUCCESS;
}

CUresult sim_node_set_free(CUgraphNode node, CUdeviceptr address)
{
    struct sim_graph_block *block = sim_graph_block_at(address);
    for (CUgraphNode other = node->graph->first; block && other; other = other->next)
        if (other != node && other->type == NODE_FREE && other->block == block)
            return CUDA_ERROR_INVALID_VALUE; /* a graph frees once */
    if (!block)
        return CUDA_ERROR_INVALID_VALUE;
    node->block = block;
    block->nodes++;
    node->graph->allocations++;
    return CUDA_SUCCESS;
}

bool sim_graph_makes(CUgraph graph, const struct sim_graph_block *block)
{
    for (const struct sim_graph_node *node = graph->first; node; node = node->next)
        if (node->type == NODE_ALLOC && node->block == block)
            return true;
    return false;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *parameters)
{
    SIM_ENTER();
    if (!parameters || !sim_marked(node, MARK_NODE) || node->type != NODE_ALLOC)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    memset(parameters, 0, sizeof *parameters);
    parameters->pool.allocation_type = CU_MEM_ALLOCATION_TYPE_PINNED;
    parameters->pool.location = (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, node->block->device};
    parameters->bytes = node->block->bytes;
    parameters->address = node->block->address;
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *address)
{
    SIM_ENTER();
    if (!address || !sim_marked(node, MARK_NODE) || node->type != NODE_FREE)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    *address = node->block->address;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- The device's reserve ----------------------------------------------------------------------------------------------------------- */

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    SIM_ENTER();
    if (!sim_visible_at(device))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    while (stores[device].kept) {
        struct sim_physical *physical = stores[device].kept;
        stores[device].kept = physical->kept_next;
        stores[device].reserved_bytes -= physical->bytes;
        physical->handles = 0;
        sim_physical_settle(physical);
    }
    return sim_driver_leave(CUDA_SUCCESS);
}

enum { ATTRIBUTE_USED, ATTRIBUTE_USED_HIGH, ATTRIBUTE_RESERVED, ATTRIBUTE_RESERVED_HIGH, ATTRIBUTES };

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, int attribute, void *value)
{
    SIM_ENTER();
    if (!sim_visible_at(device) || !value || attribute < 0 || attribute >= ATTRIBUTES)
        return sim_driver_leave(value ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_VALUE);
    const uint64_t numbers[ATTRIBUTES] = {stores[device].used_bytes, stores[device].used_peak_bytes, stores[device].reserved_bytes,
                                          stores[device].reserved_peak_bytes};
    memcpy(value, &numbers[attribute], sizeof numbers[0]);
    return sim_driver_leave(CUDA_SUCCESS);
}

/* The marks can be set back to now, and nothing else. */
CUresult cuDeviceSetGraphMemAttribute(CUdevice device, int attribute, void *value)
{
    uint64_t number = 0;
    SIM_ENTER();
    if (!sim_visible_at(device))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    if (value)
        memcpy(&number, value, sizeof number);
    if (!value || number || (attribute != ATTRIBUTE_USED_HIGH && attribute != ATTRIBUTE_RESERVED_HIGH))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (attribute == ATTRIBUTE_USED_HIGH)
        stores[device].used_peak_bytes = stores[device].used_bytes;
    else
        stores[device].reserved_peak_bytes = stores[device].reserved_bytes;
    return sim_driver_leave(CUDA_SUCCESS);
}
