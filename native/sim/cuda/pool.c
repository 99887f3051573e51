/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream-ordered allocation. A pool is a heap of its own, so that what it reserves and what is used of it are real.
 *
 * Modelled: memory is there, and gone, at the time of the call. What is freed stays with its pool, for any later allocation
 * of it, until the next synchronisation of a stream, an event or a context finds more reserved than the release threshold.
 */
#include <string.h>

#include "driver.h"
#include "pool.h"

static CUmemoryPool pool_new(int device)
{
    CUmemoryPool pool = sim_object_new(MARK_POOL, sizeof *pool);
    if (pool) {
        pool->device = device;
        pool->reuse[0] = pool->reuse[1] = pool->reuse[2] = 1;
    }
    return pool;
}

static CUmemoryPool default_pool(struct sim_visible *visible, int device)
{
    if (!visible->default_pool && (visible->default_pool = pool_new(device)))
        visible->default_pool->is_default = true;
    return visible->default_pool;
}

uint32_t sim_pool_handle_types(const struct sim_pool *pool)
{
    return pool->handle_types;
}

/* A pool gets its heap with its first allocation. */
static CUresult allocate(CUmemoryPool pool, size_t bytes, CUstream stream, CUdeviceptr *address)
{
    if (!address || !bytes || pool->imported) /* an imported pool is for its owner to allocate from */
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture)
        return sim_capture_alloc(stream, bytes, address);
    if (!pool->heap) {
        pool->heap = sim_heap_new(pool->device, NULL, pool);
        if (!pool->heap)
            return CUDA_ERROR_OUT_OF_MEMORY;
        sim_heap_keep(pool->heap, pool->release_threshold_bytes);
    }
    uint64_t used = sim_heap_use(pool->heap)->used_bytes;
    if (pool->max_bytes && (bytes > pool->max_bytes || used > pool->max_bytes - bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    return sim_heap_allocate(pool->heap, bytes, address);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    CUresult found = sim_marked(pool, MARK_POOL) ? sim_stream_find(stream, &at) : CUDA_ERROR_INVALID_VALUE;
    return sim_driver_leave(found == CUDA_SUCCESS ? allocate(pool, bytes, at, address) : found);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    return cuMemAllocFromPoolAsync(address, bytes, pool, sim_per_thread(stream));
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    CUresult found = sim_stream_find(stream, &at);
    if (found != CUDA_SUCCESS)
        return sim_driver_leave(found);
    struct sim_visible *visible = sim_visible_at(at->context->device);
    CUmemoryPool pool = visible->current_pool ? visible->current_pool : default_pool(visible, at->context->device);
    return sim_driver_leave(pool ? allocate(pool, bytes, at, address) : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes, CUstream stream)
{
    return cuMemAllocAsync(address, bytes, sim_per_thread(stream));
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
    CUstream at;
    SIM_ENTER();
    CUresult found = sim_stream_find(stream, &at);
    if (found != CUDA_SUCCESS || !address)
        return sim_driver_leave(found);
    return sim_driver_leave(at->capture ? sim_capture_free(at, address) : sim_memory_free(address));
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
    return cuMemFreeAsync(address, sim_per_thread(stream));
}

CUresult sim_pools_settle(void)
{
    SIM_ENTER();
    sim_heaps_settle(false);
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Pools ----------------------------------------------------------------------------------------------------------------------- */

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties)
{
    SIM_ENTER();
    if (!pool || !properties || properties->allocation_type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        properties->handle_types & ~(unsigned)CU_MEM_HANDLE_TYPES || properties->location.type == CU_MEM_LOCATION_TYPE_INVALID ||
        properties->location.type > CU_MEM_LOCATION_TYPE_LAST)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        properties->handle_types & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    if (!sim_visible_at(properties->location.id))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    CUmemoryPool made = pool_new(properties->location.id);
    if (made) {
        made->handle_types = properties->handle_types;
        made->max_bytes = properties->max_bytes;
        *pool = made;
    }
    return sim_driver_leave(made ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

/* What is allocated in it stays until it is freed. */
CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || pool->is_default)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct sim_visible *visible = sim_visible_at(pool->device);
    if (visible->current_pool == pool)
        visible->current_pool = NULL;
    if (pool->heap)
        sim_heap_abandon(pool->heap);
    sim_pool_unshare(pool);
    sim_object_free(pool);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes)
{
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL))
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (pool->heap)
        sim_heap_trim(pool->heap, keep_bytes);
    return sim_driver_leave(CUDA_SUCCESS);
}

enum {
    ATTRIBUTE_REUSE_LAST = 3, ATTRIBUTE_THRESHOLD, ATTRIBUTE_RESERVED, ATTRIBUTE_RESERVED_HIGH, ATTRIBUTE_USED, ATTRIBUTE_USED_HIGH,
    ATTRIBUTE_ALLOCATION_TYPE, ATTRIBUTE_HANDLE_TYPES, ATTRIBUTE_LOCATION_ID, ATTRIBUTE_LOCATION_TYPE, ATTRIBUTE_MAX_SIZE,
    ATTRIBUTE_DECOMPRESSION
};

/* Numbers of 64 bits, from the threshold to the high marks; those of 32 bits after them. */
static CUresult read_attribute(const struct sim_pool *pool, int attribute, void *value)
{
    static const struct sim_heap_use none;
    const struct sim_heap_use *use = pool->heap ? sim_heap_use(pool->heap) : &none;
    const uint64_t numbers[] = {pool->release_threshold_bytes, use->reserved_bytes, use->reserved_peak_bytes, use->used_bytes, use->used_peak_bytes};
    const int32_t facts[] = {CU_MEM_ALLOCATION_TYPE_PINNED, (int32_t)pool->handle_types, pool->device, CU_MEM_LOCATION_TYPE_DEVICE};
    if (attribute <= ATTRIBUTE_REUSE_LAST)
        memcpy(value, &pool->reuse[attribute - 1], sizeof(int));
    else if (attribute <= ATTRIBUTE_USED_HIGH)
        memcpy(value, &numbers[attribute - ATTRIBUTE_THRESHOLD], sizeof numbers[0]);
    else if (attribute <= ATTRIBUTE_LOCATION_TYPE)
        memcpy(value, &facts[attribute - ATTRIBUTE_ALLOCATION_TYPE], sizeof facts[0]);
    else if (attribute == ATTRIBUTE_MAX_SIZE)
        memcpy(value, &pool->max_bytes, sizeof pool->max_bytes);
    else
        memset(value, 0, sizeof(int));
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || !value || attribute < 1 || attribute > ATTRIBUTE_DECOMPRESSION)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    return sim_driver_leave(read_attribute(pool, attribute, value));
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    uint64_t number = 0;
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || pool->imported || !value || attribute < 1 || attribute > ATTRIBUTE_USED_HIGH)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (attribute <= ATTRIBUTE_REUSE_LAST) {
        memcpy(&pool->reuse[attribute - 1], value, sizeof(int));
        return sim_driver_leave(CUDA_SUCCESS);
    }
    memcpy(&number, value, sizeof number);
    if (attribute == ATTRIBUTE_THRESHOLD) {
        pool->release_threshold_bytes = number;
        if (pool->heap)
            sim_heap_keep(pool->heap, number);
        return sim_driver_leave(CUDA_SUCCESS);
    }
    bool high = attribute == ATTRIBUTE_RESERVED_HIGH || attribute == ATTRIBUTE_USED_HIGH;
    if (!high || number) /* the marks can be set back to now, and nothing else */
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (pool->heap && attribute == ATTRIBUTE_RESERVED_HIGH)
        sim_heap_use(pool->heap)->reserved_peak_bytes = sim_heap_use(pool->heap)->reserved_bytes;
    if (pool->heap && attribute == ATTRIBUTE_USED_HIGH)
        sim_heap_use(pool->heap)->used_peak_bytes = sim_heap_use(pool->heap)->used_bytes;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Who may touch it: its own device, always; no peer reaches another's memory here ------------------------------------------------ */

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *descriptors, size_t n)
{
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || !descriptors || !n)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; i < n; i++) {
        const CUmemAccessDesc *wanted = &descriptors[i];
        if (wanted->location.type != CU_MEM_LOCATION_TYPE_DEVICE || !sim_visible_at(wanted->location.id))
            return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
        bool own = wanted->location.id == pool->device;
        if (own ? wanted->flags != CU_MEM_ACCESS_READWRITE : wanted->flags != CU_MEM_ACCESS_NONE)
            return sim_driver_leave(own ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_DEVICE);
    }
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolGetAccess(uint32_t *flags, CUmemoryPool pool, CUmemLocation *location)
{
    SIM_ENTER();
    if (!flags || !sim_marked(pool, MARK_POOL) || !location)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || !sim_visible_at(location->id))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    *flags = location->id == pool->device ? CU_MEM_ACCESS_READWRITE : CU_MEM_ACCESS_NONE;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* --- Which pool a device has --------------------------------------------------------------------------------------------------------- */

static CUresult device_pool(CUmemoryPool *pool, CUdevice device, bool want_default)
{
    SIM_ENTER();
    struct sim_visible *visible = sim_visible_at(device);
    if (!pool || !visible)
        return sim_driver_leave(pool ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_VALUE);
    *pool = visible->current_pool && !want_default ? visible->current_pool : default_pool(visible, device);
    return sim_driver_leave(*pool ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
    return device_pool(pool, device, true);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
    return device_pool(pool, device, false);
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
    SIM_ENTER();
    struct sim_visible *visible = sim_visible_at(device);
    if (!visible || !sim_marked(pool, MARK_POOL) || pool->device != device || pool->imported)
        return sim_driver_leave(visible ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_DEVICE);
    visible->current_pool = pool;
    return sim_driver_leave(CUDA_SUCCESS);
}

/* The same by location and kind of memory, of which there is one here. */
static CUresult check_kind(const CUmemLocation *location, int type)
{
    if (!location || location->type == CU_MEM_LOCATION_TYPE_INVALID || location->type > CU_MEM_LOCATION_TYPE_LAST || type < 1 || type > 2)
        return CUDA_ERROR_INVALID_VALUE;
    bool modelled = location->type == CU_MEM_LOCATION_TYPE_DEVICE && type == CU_MEM_ALLOCATION_TYPE_PINNED;
    return modelled ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location, int type)
{
    CUresult checked = check_kind(location, type);
    return checked == CUDA_SUCCESS ? device_pool(pool, location->id, true) : checked;
}

CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, int type)
{
    CUresult checked = check_kind(location, type);
    return checked == CUDA_SUCCESS ? device_pool(pool, location->id, false) : checked;
}

CUresult cuMemSetMemPool(CUmemLocation *location, int type, CUmemoryPool pool)
{
    CUresult checked = check_kind(location, type);
    return checked == CUDA_SUCCESS ? cuDeviceSetMemPool(location->id, pool) : checked;
}
