/* SPDX-License-Identifier: Apache-2.0
 *
 * What a pointer is, over all kinds of memory.
 */
#include <string.h>

#include "driver.h"

enum {
    POINTER_CONTEXT = 1, POINTER_MEMORY_TYPE, POINTER_DEVICE, POINTER_HOST, POINTER_P2P_TOKENS, POINTER_SYNC_MEMOPS, POINTER_BUFFER_ID,
    POINTER_IS_MANAGED, POINTER_ORDINAL, POINTER_IS_LEGACY_IPC, POINTER_RANGE_START, POINTER_RANGE_SIZE, POINTER_MAPPED, POINTER_HANDLE_TYPES,
    POINTER_IS_RDMA, POINTER_ACCESS, POINTER_POOL, POINTER_MAPPING_SIZE, POINTER_MAPPING_BASE, POINTER_BLOCK_ID, POINTER_LAST
};

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    struct sim_facts facts;
    ENTER_CURRENT(true);
    (void)context;
    if (!sim_facts_find(address, &facts))
        return sim_driver_leave(CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = facts.start;
    if (bytes)
        *bytes = facts.bytes;
    return sim_driver_leave(CUDA_SUCCESS);
}

#define PUT(type, value)                                                                                                                   \
    do {                                                                                                                                   \
        type put_value = (type)(value);                                                                                                    \
        memcpy(data, &put_value, sizeof put_value);                                                                                        \
        return CUDA_SUCCESS;                                                                                                               \
    } while (0)

static CUresult pointer_attribute(const struct sim_facts *facts, int attribute, CUdeviceptr address, void *data)
{
    switch (attribute) {
    case POINTER_CONTEXT: /* physical memory belongs to none */
        PUT(CUcontext, facts->context);
    case POINTER_MEMORY_TYPE:
        PUT(uint32_t, facts->host && !facts->managed ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
    case POINTER_DEVICE:
        PUT(CUdeviceptr, address);
    case POINTER_HOST:
        if (!facts->host)
            return CUDA_ERROR_INVALID_VALUE;
        PUT(CUdeviceptr, address);
    case POINTER_SYNC_MEMOPS:
        PUT(uint32_t, 0);
    case POINTER_BUFFER_ID: /* unique while it lives, as its start is */
        PUT(uint64_t, facts->start);
    case POINTER_IS_MANAGED:
        PUT(unsigned char, facts->managed);
    case POINTER_ORDINAL:
        PUT(int32_t, facts->device);
    case POINTER_IS_LEGACY_IPC: /* can be exported by cuIpcGetMemHandle */
        PUT(unsigned char, facts->heap && !facts->pool && !facts->imported);
    case POINTER_RANGE_START:
        PUT(CUdeviceptr, facts->range_start);
    case POINTER_RANGE_SIZE:
        PUT(size_t, facts->range_bytes);
    case POINTER_MAPPED:
        PUT(unsigned char, facts->mapped);
    case POINTER_HANDLE_TYPES:
        PUT(uint64_t, facts->handle_types);
    case POINTER_IS_RDMA:
        PUT(unsigned char, 0);
    case POINTER_ACCESS:
        PUT(int32_t, facts->access);
    case POINTER_POOL:
        PUT(CUmemoryPool, facts->pool);
    case POINTER_MAPPING_SIZE:
        PUT(size_t, facts->bytes);
    case POINTER_MAPPING_BASE:
        PUT(CUdeviceptr, facts->start);
    case POINTER_BLOCK_ID:
        PUT(uint64_t, facts->physical ? (uintptr_t)facts->physical : facts->start);
    default:
        return attribute == POINTER_P2P_TOKENS ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address)
{
    struct sim_facts facts;
    SIM_ENTER();
    if (!data || attribute < POINTER_CONTEXT || attribute >= POINTER_LAST)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    bool known = sim_facts_find(address, &facts);
    bool about_range = attribute == POINTER_RANGE_START || attribute == POINTER_RANGE_SIZE || attribute == POINTER_MAPPED;
    if (!known && !(facts.range_bytes && about_range)) /* reserved and not mapped: it has a range, and that is all */
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(pointer_attribute(&facts, attribute, address, data));
}

static size_t attribute_bytes(int attribute)
{
    switch (attribute) {
    case POINTER_IS_MANAGED:
    case POINTER_IS_LEGACY_IPC:
    case POINTER_MAPPED:
    case POINTER_IS_RDMA:
        return 1;
    case POINTER_MEMORY_TYPE:
    case POINTER_SYNC_MEMOPS:
    case POINTER_ORDINAL:
    case POINTER_ACCESS:
        return 4;
    default:
        return 8;
    }
}

/* Unlike the single query, an unknown pointer is no error here: its attributes are zero. */
CUresult cuPointerGetAttributes(unsigned n, int *attributes, void **data, CUdeviceptr address)
{
    struct sim_facts facts;
    SIM_ENTER();
    if (!n || !attributes || !data)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    for (unsigned i = 0; i < n; i++)
        if (!data[i] || attributes[i] < POINTER_CONTEXT || attributes[i] >= POINTER_LAST || attributes[i] == POINTER_P2P_TOKENS)
            return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    bool known = sim_facts_find(address, &facts);
    for (unsigned i = 0; i < n; i++)
        if (!known || pointer_attribute(&facts, attributes[i], address, data[i]) != CUDA_SUCCESS)
            memset(data[i], 0, attribute_bytes(attributes[i]));
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuPointerSetAttribute(const void *value, int attribute, CUdeviceptr address)
{
    struct sim_facts facts;
    uint32_t wanted;
    SIM_ENTER();
    if (!value || !sim_facts_find(address, &facts) || facts.managed)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (attribute != POINTER_SYNC_MEMOPS)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    memcpy(&wanted, value, sizeof wanted);
    return sim_driver_leave(wanted <= 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE); /* every copy here is in order already */
}
