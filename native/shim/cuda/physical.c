/* SPDX-License-Identifier: Apache-2.0
 *
 * Physical memory: made by cuMemCreate, then mapped at addresses of the program's choice.
 *
 * Invariant: the memory lives, and stays charged, as long as a handle or a mapping refers to it. Programs commonly release the handle
 * as soon as the memory is mapped; what gives it back then is the last cuMemUnmap.
 *
 * These calls are rare and slow (the driver changes page tables), so that one lock will do. It is held across the call of the driver: a handle's value
 * that the driver gives out again is never taken for the one that is being released.
 *
 * What another process exported is its owner's, and is not charged here: a handle that was imported, and a multicast object, are not in the table, and
 * mappings of them refer to nothing in it.
 */
#define _GNU_SOURCE
#include "memory.h"

#include "../core/map.h"

#include <pthread.h>

#define OWNER_SHIFT 48
#define MAPPINGS_SHIFT 32
#define STEP_BYTES 65536 /* no mapping is smaller, or begins elsewhere than at a multiple of it */

/* handle -> bytes, below the owner | references by handle, below references by address */
static struct mica_map allocations;
/* address -> bytes | handle: every mapping, of whatever handle */
static struct mica_map mappings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void give_back_if_unused(struct mica_map_entry *allocation)
{
    if (allocation->second == 0) {
        struct mica_live_entry entry = {.bytes = allocation->first & MICA_LIVE_BYTES_MAX, .owner = (uint16_t)(allocation->first >> OWNER_SHIFT)};
        entry_give_back(entry);
        mica_map_remove(&allocations, allocation->key);
    }
}

static uint32_t handles_of(const struct mica_map_entry *allocation)
{
    return (uint32_t)allocation->second;
}

void physical_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    mica_map_clear(&allocations);
    mica_map_clear(&mappings);
}

/* --- Hooks -------------------------------------------------------------------------------------------------------- */

static bool remember(uint64_t handle, const struct grant *grant)
{
    pthread_mutex_lock(&lock);
    struct mica_map_entry *allocation = mica_map_put(&allocations, handle);
    if (allocation != NULL) {
        allocation->first = (uint64_t)grant->owner << OWNER_SHIFT | grant->bytes;
        allocation->second = 1;
    }
    pthread_mutex_unlock(&lock);
    return allocation != NULL;
}

/* Device memory is charged to its device, host memory as pinned. */
static struct grant grant_for(const CUmemAllocationProp *prop, uint64_t bytes)
{
    switch (prop != NULL ? prop->location.type : CU_MEM_LOCATION_TYPE_INVALID) {
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
        return grant_take_on_host(bytes);
    case CU_MEM_LOCATION_TYPE_INVALID:
        return (struct grant){.result = door() == DOOR_CLOSED ? CUDA_ERROR_NOT_PERMITTED : CUDA_SUCCESS}; /* the driver refuses by itself */
    default:
        return grant_take_on(prop->location.id, bytes);
    }
}

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    struct grant grant = grant_for(prop, bytes);
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemCreate(handle, bytes, prop, flags);
    if (grant.is_charged && result == CUDA_SUCCESS && !remember(*handle, &grant)) {
        (void)below_cuMemRelease(*handle);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (result != CUDA_SUCCESS) {
        grant_cancel(&grant);
    }
    return result;
}

EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    (void)door(); /* opens the driver; giving back is allowed whatever the answer */
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemRelease(handle);
    struct mica_map_entry *allocation = result == CUDA_SUCCESS ? mica_map_find(&allocations, handle) : NULL;
    if (allocation != NULL && handles_of(allocation) != 0) {
        allocation->second--;
        give_back_if_unused(allocation);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address)
{
    (void)door();
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemRetainAllocationHandle(handle, address);
    struct mica_map_entry *allocation = result == CUDA_SUCCESS ? mica_map_find(&allocations, *handle) : NULL;
    if (allocation != NULL) {
        allocation->second++;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    (void)door();
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemMap(address, bytes, offset, handle, flags);
    struct mica_map_entry *mapping = result == CUDA_SUCCESS ? mica_map_put(&mappings, address) : NULL;
    if (mapping != NULL) {
        mapping->first = bytes;
        mapping->second = handle;
        struct mica_map_entry *allocation = mica_map_find(&allocations, handle);
        if (allocation != NULL) {
            allocation->second += 1ULL << MAPPINGS_SHIFT;
        }
    } else if (result == CUDA_SUCCESS) {
        (void)below_cuMemUnmap(address, bytes);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* What lay at `address` is mapped no more. Where the next mapping may begin. */
static CUdeviceptr forget_mapping(CUdeviceptr address)
{
    struct mica_map_entry *mapping = mica_map_find(&mappings, address);
    if (mapping == NULL || mapping->first == 0) {
        return address + STEP_BYTES;
    }
    CUdeviceptr end = address + mapping->first;
    struct mica_map_entry *allocation = mica_map_find(&allocations, mapping->second);
    mica_map_remove(&mappings, address);
    if (allocation != NULL && allocation->second >> MAPPINGS_SHIFT != 0) {
        allocation->second -= 1ULL << MAPPINGS_SHIFT;
        give_back_if_unused(allocation);
    }
    return end;
}

/* One call may take several mappings away that lie side by side. */
EXPORT CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    (void)door();
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemUnmap(address, bytes);
    if (result == CUDA_SUCCESS) {
        for (CUdeviceptr at = address; at - address < bytes && mappings.count != 0;) {
            at = forget_mapping(at);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}
