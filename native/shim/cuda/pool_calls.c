/* SPDX-License-Identifier: Apache-2.0
 *
 * The calls that allocate from pools, and those that make, change and end them.
 */
#include "pool_books.h"

#include "capture.h"
#include "memory.h"

/* The driver hands out multiples. */
#define UNIT_BYTES 512ULL
/* Memory that is free in a pool may be of the wrong shape, or not free yet in the order of another stream: then the driver reserves more although there was
 * room by the count. So it is asked all the same after an allocation of this size, and after this many that fitted. */
#define LARGE_BYTES (2ULL << 20)
#define FITTED_MAX 16

static uint64_t rounded(uint64_t bytes)
{
    return bytes > MICA_LIVE_BYTES_MAX - UNIT_BYTES ? MICA_LIVE_BYTES_MAX : (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

struct taking {
    CUresult result;   /* not CUDA_SUCCESS: do not ask the driver, answer this */
    struct pool *pool; /* NULL: not enforced */
    uint64_t bytes;
    bool has_grown;
};

/* Threads that count at once may count one for two: the driver is asked a little later, and counting needs no exclusive access. */
static bool many_have_fitted(struct pool *pool)
{
    unsigned fitted = atomic_load_explicit(&pool->fitted, memory_order_relaxed) + 1;
    atomic_store_explicit(&pool->fitted, fitted, memory_order_relaxed);
    return fitted >= FITTED_MAX;
}

/* After an allocation: does the driver have to be asked? Where the slice is nearly full, always. */
static bool must_settle(struct pool *pool, const struct taking *taking)
{
    return taking->has_grown || taking->bytes >= LARGE_BYTES || atomic_load_explicit(&pool->is_tight, memory_order_relaxed) || many_have_fitted(pool);
}

static struct taking take_from(struct pool *pool, uint64_t bytes)
{
    struct taking taking = {.pool = pool, .bytes = rounded(bytes)};
    if (!pool->is_owned) {
        return (struct taking){.result = CUDA_SUCCESS}; /* the driver allocates nothing in it */
    }
    if (pool->device == NULL) {
        return (struct taking){.result = CUDA_ERROR_NOT_PERMITTED};
    }
    if (bytes >= MICA_LIVE_BYTES_MAX) {
        return (struct taking){.result = CUDA_ERROR_OUT_OF_MEMORY};
    }
    /* seq_cst, both: see charge_lower. */
    uint64_t used = atomic_fetch_add(&pool->used, taking.bytes) + taking.bytes;
    taking.has_grown = used > atomic_load(&pool->charged);
    enum mica_verdict verdict = taking.has_grown ? pool_grow(pool) : mica_memory_permit(pool->device);
    if (verdict != MICA_GRANTED) {
        atomic_fetch_sub(&pool->used, taking.bytes);
        taking.result = verdict_result(verdict);
    }
    return taking;
}

static struct taking take(CUmemoryPool handle, CUstream stream, uint64_t bytes)
{
    enum door at = door();
    if (at != DOOR_ENFORCE) {
        return (struct taking){.result = at == DOOR_PASS ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED};
    }
    struct context *context = context_of_stream(stream);
    if (context == NULL || (capture_is_used() && capture_is_active(stream))) {
        return (struct taking){.result = CUDA_SUCCESS}; /* the driver refuses by itself, or records a node that is charged with its graph */
    }
    struct pool *pool = handle != NULL ? pool_of(handle) : pool_current(context->ordinal);
    return pool != NULL ? take_from(pool, bytes) : (struct taking){.result = CUDA_ERROR_NOT_PERMITTED};
}

/* The driver has reserved more than the slice may have, or the allocation cannot be remembered: take it back. */
static CUresult undo(struct pool *pool, CUdeviceptr pointer, CUstream stream, uint64_t bytes, CUresult answer)
{
    (void)below_cuMemFreeAsync(pointer, stream);
    pool_returned(pool_owner(pool), bytes);
    (void)pools_relieve(pool->device, pool->kind);
    return answer;
}

static CUresult keep(const struct taking *taking, CUresult result, const CUdeviceptr *pointer, CUstream stream)
{
    struct pool *pool = taking->pool;
    if (pool == NULL) {
        return result;
    }
    if (result != CUDA_SUCCESS) {
        pool_returned(pool_owner(pool), taking->bytes);
    }
    enum mica_verdict verdict = MICA_GRANTED;
    if (must_settle(pool, taking)) {
        verdict = pool_settle(pool);
    }
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (verdict != MICA_GRANTED) {
        return undo(pool, *pointer, stream, taking->bytes, verdict_result(verdict));
    }
    if (!pointer_remember(*pointer, taking->bytes, pool_owner(pool))) {
        return undo(pool, *pointer, stream, taking->bytes, CUDA_ERROR_OUT_OF_MEMORY);
    }
    return CUDA_SUCCESS;
}

/* In programs built for it, stream 0 means the thread's own default stream. */
static CUstream per_thread(CUstream stream)
{
    return stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

/* A hook that allocates from a pool in the order of a stream; `from` is NULL for the device's current pool. */
#define POOL_HOOK(name, params, args, from, on_stream)                                \
    EXPORT CUresult name params                                                       \
    {                                                                                 \
        struct taking taking = take(from, on_stream, bytes);                          \
        if (taking.result != CUDA_SUCCESS) {                                          \
            return taking.result;                                                     \
        }                                                                             \
        return keep(&taking, below_##name args, pointer, on_stream);                  \
    }

POOL_HOOK(cuMemAllocAsync, (CUdeviceptr * pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), NULL, stream)
POOL_HOOK(cuMemAllocAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUstream stream), (pointer, bytes, stream), NULL, per_thread(stream))
POOL_HOOK(cuMemAllocFromPoolAsync, (CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream), pool, stream)
POOL_HOOK(cuMemAllocFromPoolAsync_ptsz, (CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool, CUstream stream), (pointer, bytes, pool, stream), pool,
          per_thread(stream))

/* --- Pools come, change and go ------------------------------------------------------------------------------------------ */

EXPORT CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props)
{
    enum door at = door();
    if (at == DOOR_CLOSED) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    CUresult result = below_cuMemPoolCreate(pool, props);
    if (at == DOOR_ENFORCE && result == CUDA_SUCCESS && pool_enter(*pool, props->location.type, props->location.id, true) == NULL) {
        (void)below_cuMemPoolDestroy(*pool);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return result;
}

EXPORT CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle, int type, unsigned long long flags)
{
    enum door at = door();
    if (at == DOOR_CLOSED) {
        return CUDA_ERROR_NOT_PERMITTED;
    }
    CUresult result = below_cuMemPoolImportFromShareableHandle(pool, handle, type, flags);
    if (at == DOOR_ENFORCE && result == CUDA_SUCCESS && pool_enter(*pool, CU_MEM_LOCATION_TYPE_DEVICE, -1, false) == NULL) {
        (void)below_cuMemPoolDestroy(*pool);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return result;
}

EXPORT CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
    return pool_end(door() == DOOR_ENFORCE && handle != NULL ? pool_find(handle) : NULL, handle);
}

static CUresult settled(CUmemoryPool handle, CUresult result)
{
    struct pool *pool = door() == DOOR_ENFORCE && result == CUDA_SUCCESS ? pool_find(handle) : NULL;
    if (pool != NULL) {
        (void)pool_settle(pool);
    }
    return result;
}

EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes)
{
    (void)door();
    return settled(pool, below_cuMemPoolTrimTo(pool, keep_bytes));
}

EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    (void)door();
    return settled(pool, below_cuMemPoolSetAttribute(pool, attribute, value));
}

/* --- The pools of a device or a place ------------------------------------------------------------------------------------ */

static CUresult seen(CUresult result, const CUmemoryPool *pool, int location_type, CUdevice ordinal)
{
    if (door() == DOOR_ENFORCE && result == CUDA_SUCCESS && *pool != NULL && pool_find(*pool) == NULL) {
        (void)pool_enter(*pool, location_type, ordinal, true); /* if there are too many, its allocations are not permitted */
    }
    return result;
}

#define LOCATION_TYPE(location) ((location) != NULL ? (location)->type : CU_MEM_LOCATION_TYPE_INVALID)
#define LOCATION_ID(location) ((location) != NULL ? (location)->id : -1)

EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device)
{
    (void)door();
    return seen(below_cuDeviceGetDefaultMemPool(pool, device), pool, CU_MEM_LOCATION_TYPE_DEVICE, device);
}

EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
    (void)door();
    return seen(below_cuDeviceGetMemPool(pool, device), pool, CU_MEM_LOCATION_TYPE_DEVICE, device);
}

EXPORT CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
    (void)door();
    CUresult result = below_cuDeviceSetMemPool(device, pool);
    if (result == CUDA_SUCCESS) {
        pool_current_changed(device);
    }
    return result;
}

EXPORT CUresult cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location, int type)
{
    (void)door();
    return seen(below_cuMemGetDefaultMemPool(pool, location, type), pool, LOCATION_TYPE(location), LOCATION_ID(location));
}

EXPORT CUresult cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, int type)
{
    (void)door();
    return seen(below_cuMemGetMemPool(pool, location, type), pool, LOCATION_TYPE(location), LOCATION_ID(location));
}

EXPORT CUresult cuMemSetMemPool(CUmemLocation *location, int type, CUmemoryPool pool)
{
    (void)door();
    CUresult result = below_cuMemSetMemPool(location, type, pool);
    if (result == CUDA_SUCCESS && LOCATION_TYPE(location) == CU_MEM_LOCATION_TYPE_DEVICE) {
        pool_current_changed(LOCATION_ID(location));
    }
    return result;
}
