/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream-ordered allocation. A pool is a heap of its own, so that what it reserves and what is used of it are real.
 *
 * Modelled: memory is there, and gone, at the time of the call; freed granules go back to the device at once, whatever
 * the release threshold (which is kept and can be read back).
 */
#include <string.h>

#include "driver.h"

struct sim_pool {
    uint32_t mark;
    int device;
    bool is_default;
    struct sim_heap *heap;
    int reuse[3];
    uint64_t release_threshold_bytes;
};

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

/* A pool gets its heap with its first allocation: the device's account exists by then. */
static CUresult allocate(CUmemoryPool pool, size_t bytes, CUstream stream, CUdeviceptr *address)
{
    struct sim_visible *visible = sim_visible_at(pool->device);
    uint64_t free_bytes, total_bytes;
    if (!address || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->context->device != pool->device)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!pool->heap) {
        sim_vram_info(visible->place, &free_bytes, &total_bytes);
        pool->heap = sim_heap_new(visible->account, total_bytes);
        if (!pool->heap)
            return CUDA_ERROR_OUT_OF_MEMORY;
    }
    sim_heap_set_context(pool->heap, stream->context);
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
    return sim_driver_leave(sim_memory_free(address));
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream)
{
    return cuMemFreeAsync(address, sim_per_thread(stream));
}

/* --- Pools ----------------------------------------------------------------------------------------------------------------------- */

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties)
{
    SIM_ENTER();
    if (!pool || !properties || properties->allocation_type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE || properties->handle_types)
        return sim_driver_leave(CUDA_ERROR_NOT_SUPPORTED);
    if (!sim_visible_at(properties->location.id))
        return sim_driver_leave(CUDA_ERROR_INVALID_DEVICE);
    CUmemoryPool made = pool_new(properties->location.id);
    if (made)
        *pool = made;
    return sim_driver_leave(made ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || pool->is_default)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    struct sim_visible *visible = sim_visible_at(pool->device);
    if (visible->current_pool == pool)
        visible->current_pool = NULL;
    if (pool->heap)
        sim_heap_delete(pool->heap);
    sim_object_free(pool);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes)
{
    (void)keep_bytes; /* nothing unused is kept */
    SIM_ENTER();
    return sim_driver_leave(sim_marked(pool, MARK_POOL) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

enum { ATTRIBUTE_REUSE_LAST = 3, ATTRIBUTE_THRESHOLD = 4, ATTRIBUTE_RESERVED = 5, ATTRIBUTE_RESERVED_HIGH = 6, ATTRIBUTE_USED = 7, ATTRIBUTE_USED_HIGH = 8 };

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    static struct sim_heap_use none;
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || !value || attribute < 1 || attribute > ATTRIBUTE_USED_HIGH)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (attribute <= ATTRIBUTE_REUSE_LAST) {
        memcpy(value, &pool->reuse[attribute - 1], sizeof(int));
        return sim_driver_leave(CUDA_SUCCESS);
    }
    const struct sim_heap_use *use = pool->heap ? sim_heap_use(pool->heap) : &none;
    const uint64_t numbers[] = {pool->release_threshold_bytes, use->reserved_bytes, use->reserved_peak_bytes, use->used_bytes, use->used_peak_bytes};
    memcpy(value, &numbers[attribute - ATTRIBUTE_THRESHOLD], sizeof numbers[0]);
    return sim_driver_leave(CUDA_SUCCESS);
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    uint64_t number = 0;
    SIM_ENTER();
    if (!sim_marked(pool, MARK_POOL) || !value || attribute < 1 || attribute > ATTRIBUTE_USED_HIGH)
        return sim_driver_leave(CUDA_ERROR_INVALID_VALUE);
    if (attribute <= ATTRIBUTE_REUSE_LAST) {
        memcpy(&pool->reuse[attribute - 1], value, sizeof(int));
        return sim_driver_leave(CUDA_SUCCESS);
    }
    memcpy(&number, value, sizeof number);
    if (attribute == ATTRIBUTE_THRESHOLD) {
        pool->release_threshold_bytes = number;
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
    if (!visible || !sim_marked(pool, MARK_POOL) || pool->device != device)
        return sim_driver_leave(visible ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_DEVICE);
    visible->current_pool = pool;
    return sim_driver_leave(CUDA_SUCCESS);
}
