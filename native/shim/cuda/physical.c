/* SPDX-License-Identifier: Apache-2.0
 *
 * Physical memory: made by cuMemCreate, then mapped at addresses of the program's choice.
 *
 * Invariant: the memory lives, and stays charged, as long as a handle or a mapping refers to it. Programs commonly release the handle
 * as soon as the memory is mapped; what gives it back then is the last cuMemUnmap.
 *
 * These calls are rare and slow (the driver changes page tables), so that one lock and two short lists will do. The lock is held across the call
 * of the driver: a handle's value that the driver gives out again is never taken for the one that is being released.
 */
#define _GNU_SOURCE
#include "memory.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_BYTES 4096

struct allocation {
    uint64_t handle;
    uint64_t bytes;
    struct mica_device *device;
    uint32_t handles;  /* references by handle */
    uint32_t mappings; /* references by address */
};

struct mapping {
    CUdeviceptr address;
    uint64_t bytes;
    uint64_t handle;
};

/* A list that grows by doubling its mapping. The order of its elements means nothing. */
struct list {
    void *elements;
    size_t element_bytes;
    size_t count;
    size_t capacity_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list allocations = {.element_bytes = sizeof(struct allocation)};
static struct list mappings = {.element_bytes = sizeof(struct mapping)};

static void *element(const struct list *list, size_t index)
{
    return (char *)list->elements + index * list->element_bytes;
}

/* Room for one more at the end, or NULL. */
static void *list_add(struct list *list)
{
    if ((list->count + 1) * list->element_bytes > list->capacity_bytes) {
        size_t larger_bytes = list->capacity_bytes != 0 ? 2 * list->capacity_bytes : FIRST_BYTES;
        void *larger = list->elements == NULL ? mmap(NULL, larger_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                              : mremap(list->elements, list->capacity_bytes, larger_bytes, MREMAP_MAYMOVE);
        if (larger == MAP_FAILED) {
            return NULL;
        }
        list->elements = larger;
        list->capacity_bytes = larger_bytes;
    }
    return element(list, list->count++);
}

static void list_remove(struct list *list, size_t index)
{
    memmove(element(list, index), element(list, list->count - 1), list->element_bytes);
    list->count--;
}

static struct allocation *allocation_of(uint64_t handle)
{
    for (size_t i = 0; i < allocations.count; i++) {
        struct allocation *allocation = element(&allocations, i);
        if (allocation->handle == handle) {
            return allocation;
        }
    }
    return NULL;
}

static void give_back_if_unused(struct allocation *allocation)
{
    if (allocation->handles == 0 && allocation->mappings == 0) {
        mica_memory_refund(allocation->device, MICA_MEMORY_VRAM, allocation->bytes);
        list_remove(&allocations, (size_t)(allocation - (struct allocation *)allocations.elements));
    }
}

void physical_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    allocations.count = 0;
    mappings.count = 0;
}

/* --- Hooks -------------------------------------------------------------------------------------------------------- */

static CUresult create_charged(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    struct grant grant = grant_take_on(prop->location.id, bytes);
    if (grant.result != CUDA_SUCCESS) {
        return grant.result;
    }
    CUresult result = below_cuMemCreate(handle, bytes, prop, flags);
    if (!grant.is_charged) {
        return result;
    }
    pthread_mutex_lock(&lock);
    struct allocation *allocation = result == CUDA_SUCCESS ? list_add(&allocations) : NULL;
    if (allocation != NULL) {
        *allocation = (struct allocation){.handle = *handle, .bytes = bytes, .device = owner_device(grant.owner), .handles = 1};
    }
    pthread_mutex_unlock(&lock);
    if (allocation == NULL) {
        if (result == CUDA_SUCCESS) {
            (void)below_cuMemRelease(*handle);
            result = CUDA_ERROR_OUT_OF_MEMORY;
        }
        mica_memory_refund(owner_device(grant.owner), MICA_MEMORY_VRAM, bytes);
    }
    return result;
}

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    if (prop != NULL && prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
        return create_charged(handle, bytes, prop, flags);
    }
    return door() == DOOR_CLOSED ? CUDA_ERROR_NOT_PERMITTED : below_cuMemCreate(handle, bytes, prop, flags);
}

EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    (void)door(); /* opens the driver; giving back is allowed whatever the answer */
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemRelease(handle);
    struct allocation *allocation = result == CUDA_SUCCESS ? allocation_of(handle) : NULL;
    if (allocation != NULL && allocation->handles > 0) {
        allocation->handles--;
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
    struct allocation *allocation = result == CUDA_SUCCESS ? allocation_of(*handle) : NULL;
    if (allocation != NULL) {
        allocation->handles++;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    (void)door();
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemMap(address, bytes, offset, handle, flags);
    struct allocation *allocation = result == CUDA_SUCCESS ? allocation_of(handle) : NULL;
    if (allocation != NULL) {
        struct mapping *mapping = list_add(&mappings);
        if (mapping != NULL) {
            *mapping = (struct mapping){.address = address, .bytes = bytes, .handle = handle};
            allocation->mappings++;
        } else {
            (void)below_cuMemUnmap(address, bytes);
            result = CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* One call may take several mappings away that lie side by side. */
EXPORT CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    (void)door();
    pthread_mutex_lock(&lock);
    CUresult result = below_cuMemUnmap(address, bytes);
    for (size_t i = mappings.count; i-- > 0 && result == CUDA_SUCCESS;) {
        const struct mapping *mapping = element(&mappings, i);
        if (mapping->address < address || mapping->address - address >= bytes) {
            continue;
        }
        struct allocation *allocation = allocation_of(mapping->handle);
        list_remove(&mappings, i);
        if (allocation != NULL) {
            allocation->mappings--;
            give_back_if_unused(allocation);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}
