/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_books.h"

#include "memory.h"

#include <pthread.h>
#include <string.h>

#define POOLS_MAX 1024
#define TIGHT_BYTES (64ULL << 20)
#define ORDINALS_MAX 64
static struct pool pools[POOLS_MAX];
static _Atomic unsigned pools_high;             /* every pool in use lies below */
static _Atomic(struct pool *) current[ORDINALS_MAX]; /* of each device; NULL: ask */
static _Atomic uint64_t generation = 1;         /* moves when a handle may come to mean another pool */
/* For charges that change, and for making and ending pools: never for an allocation that fits, or a free. */
static pthread_mutex_t settling = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local struct {
    CUmemoryPool handle;
    uint64_t generation;
    struct pool *pool;
} last;

uint16_t pool_owner(const struct pool *pool)
{
    return owner_make(OWNER_POOL, (unsigned)(pool - pools));
}

/* --- Charges (`settling` held) ------------------------------------------------------------------------------------------ */

/* Lower the charge to `wanted`, or to what is used if that is more. The own word first: an allocation adds to `used` and then reads `charged`, this writes
 * `charged` and then reads `used`, all seq_cst, so that one of the two sees the other and nothing is handed out of what is given back. */
static void charge_lower(struct pool *pool, uint64_t wanted)
{
    uint64_t before = atomic_load(&pool->charged);
    uint64_t used = atomic_load(&pool->used);
    uint64_t after = used > wanted ? used : wanted;
    if (after >= before) {
        return;
    }
    atomic_store(&pool->charged, after);
    used = atomic_load(&pool->used);
    if (used > after) {
        after = used < before ? used : before;
        atomic_store(&pool->charged, after);
    }
    mica_memory_refund(pool->device, pool->kind, before - after);
}

static enum mica_verdict charge_raise(struct pool *pool, uint64_t wanted)
{
    uint64_t before = atomic_load(&pool->charged);
    enum mica_verdict verdict = wanted > before ? mica_memory_charge(pool->device, pool->kind, wanted - before) : MICA_GRANTED;
    if (verdict == MICA_GRANTED && wanted > before) {
        atomic_store(&pool->charged, wanted);
    }
    return verdict;
}

static CUresult attribute_of(CUmemoryPool handle, int attribute, uint64_t *value)
{
    return driver.cuMemPoolGetAttribute != NULL ? driver.cuMemPoolGetAttribute(handle, attribute, value) : CUDA_ERROR_NOT_FOUND;
}

/* Make the charge what the driver has reserved. Not granted: it has reserved more than the slice may have. */
static enum mica_verdict settle(struct pool *pool)
{
    uint64_t reserved = 0;
    CUmemoryPool handle = atomic_load_explicit(&pool->handle, memory_order_relaxed);
    atomic_store_explicit(&pool->fitted, 0, memory_order_relaxed);
    if (handle == NULL || attribute_of(handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS) {
        return MICA_GRANTED;
    }
    charge_lower(pool, reserved);
    enum mica_verdict verdict = charge_raise(pool, reserved);
    const struct mica_slice_limits *limits = mica_limits_now(pool->device);
    atomic_store_explicit(&pool->is_tight, limits != NULL && mica_memory_free(pool->device, limits) < TIGHT_BYTES, memory_order_relaxed);
    return verdict;
}

static bool has_slack(const struct pool *pool)
{
    return atomic_load_explicit(&pool->used, memory_order_relaxed) < atomic_load_explicit(&pool->charged, memory_order_relaxed);
}

static bool relieve(const struct mica_device *device, enum mica_memory_kind kind)
{
    uint64_t before = mica_charge_sum(device->usage, kind);
    unsigned high = atomic_load_explicit(&pools_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        struct pool *pool = &pools[i];
        CUmemoryPool handle = atomic_load_explicit(&pool->handle, memory_order_relaxed);
        if (pool->device == device && pool->kind == kind && pool->is_owned && handle != NULL && has_slack(pool)) {
            (void)below_cuMemPoolTrimTo(handle, 0);
            (void)settle(pool);
        }
    }
    return mica_charge_sum(device->usage, kind) < before;
}

bool pools_relieve(const struct mica_device *device, enum mica_memory_kind kind)
{
    if (atomic_load_explicit(&pools_high, memory_order_acquire) == 0) {
        return false;
    }
    pthread_mutex_lock(&settling);
    bool is_more = relieve(device, kind);
    pthread_mutex_unlock(&settling);
    return is_more;
}

/* A pool that is used to the last byte, and was asked since the last allocation, has nothing new to tell. */
static bool may_have_moved(const struct pool *pool)
{
    return has_slack(pool) || atomic_load_explicit(&pool->fitted, memory_order_relaxed) != 0;
}

void pools_settle(void)
{
    unsigned high = atomic_load_explicit(&pools_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        if (may_have_moved(&pools[i])) {
            pthread_mutex_lock(&settling);
            (void)settle(&pools[i]);
            pthread_mutex_unlock(&settling);
        }
    }
}

void pools_after_context(void)
{
    unsigned high = atomic_load_explicit(&pools_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        struct pool *pool = &pools[i];
        uint64_t used = 0;
        CUmemoryPool handle = atomic_load_explicit(&pool->handle, memory_order_relaxed);
        if (handle == NULL || !pool->is_owned || pool->device == NULL) {
            continue;
        }
        if (attribute_of(handle, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) == CUDA_SUCCESS && used == 0 && atomic_load(&pool->used) != 0) {
            mica_live_sweep(pool_owner(pool), entry_give_back);
        }
        pthread_mutex_lock(&settling);
        (void)settle(pool);
        pthread_mutex_unlock(&settling);
    }
}

void pools_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    settling = fresh;
    memset(pools, 0, sizeof pools);
    memset(current, 0, sizeof current);
    atomic_store(&pools_high, 0);
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

/* --- Which pool ---------------------------------------------------------------------------------------------------------- */

struct pool *pool_find(CUmemoryPool handle)
{
    unsigned high = atomic_load_explicit(&pools_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        if (atomic_load_explicit(&pools[i].handle, memory_order_acquire) == handle) {
            return &pools[i];
        }
    }
    return NULL;
}

struct pool *pool_of(CUmemoryPool handle)
{
    uint64_t now = atomic_load_explicit(&generation, memory_order_acquire);
    if (last.handle != handle || last.generation != now) {
        last.pool = pool_find(handle);
        last.handle = handle;
        last.generation = now;
    }
    return last.pool;
}

static bool is_host(int location_type)
{
    return location_type == CU_MEM_LOCATION_TYPE_HOST || location_type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
           location_type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

/* A place for a pool; of one that was destroyed and has nothing out any more, or a new one. */
static struct pool *place(void)
{
    for (unsigned i = 0; i < POOLS_MAX; i++) {
        struct pool *pool = &pools[i];
        if (atomic_load_explicit(&pool->handle, memory_order_relaxed) == NULL && atomic_load(&pool->used) == 0 && atomic_load(&pool->charged) == 0) {
            return pool;
        }
    }
    return NULL;
}

struct pool *pool_enter(CUmemoryPool handle, int location_type, CUdevice ordinal, bool is_owned)
{
    pthread_mutex_lock(&settling);
    struct pool *pool = pool_find(handle);
    if (pool == NULL && (pool = place()) != NULL) {
        bool host = is_host(location_type);
        pool->device = host ? &mica_attached_slice()->devices[0] : ordinal_device(ordinal);
        pool->kind = host ? MICA_MEMORY_PINNED : MICA_MEMORY_VRAM;
        pool->is_owned = is_owned;
        atomic_store(&pool->charged, 0);
        atomic_store(&pool->is_destroyed, false);
        atomic_store_explicit(&pool->handle, handle, memory_order_release); /* pairs with the acquire in find */
        unsigned index = (unsigned)(pool - pools);
        if (index >= atomic_load(&pools_high)) {
            atomic_store_explicit(&pools_high, index + 1, memory_order_release);
        }
        atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    }
    pthread_mutex_unlock(&settling);
    return pool;
}

struct pool *pool_current(CUdevice ordinal)
{
    if (ordinal < 0 || ordinal >= ORDINALS_MAX) {
        return NULL;
    }
    struct pool *pool = atomic_load_explicit(&current[ordinal], memory_order_acquire);
    CUmemoryPool handle = NULL;
    if (pool == NULL && below_cuDeviceGetMemPool(&handle, ordinal) == CUDA_SUCCESS) {
        pool = pool_enter(handle, CU_MEM_LOCATION_TYPE_DEVICE, ordinal, true);
        atomic_store_explicit(&current[ordinal], pool, memory_order_release);
    }
    return pool;
}

void pool_current_changed(CUdevice ordinal)
{
    if (ordinal >= 0 && ordinal < ORDINALS_MAX) {
        atomic_store_explicit(&current[ordinal], NULL, memory_order_release);
    }
}

CUresult pool_end(struct pool *pool, CUmemoryPool handle)
{
    pthread_mutex_lock(&settling);
    CUresult result = below_cuMemPoolDestroy(handle);
    if (pool != NULL && result == CUDA_SUCCESS) {
        atomic_store(&pool->is_destroyed, true);
        atomic_store_explicit(&pool->handle, NULL, memory_order_release);
        charge_lower(pool, 0);
        for (CUdevice i = 0; i < ORDINALS_MAX; i++) {
            pool_current_changed(i);
        }
        atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    }
    pthread_mutex_unlock(&settling);
    return result;
}

/* --- Taking and giving back ------------------------------------------------------------------------------------------- */

enum mica_verdict pool_grow(struct pool *pool)
{
    pthread_mutex_lock(&settling);
    enum mica_verdict verdict = charge_raise(pool, atomic_load(&pool->used));
    if (verdict == MICA_NO_MEMORY && relieve(pool->device, pool->kind)) {
        verdict = charge_raise(pool, atomic_load(&pool->used));
        if (verdict == MICA_GRANTED) {
            mica_memory_uncount_refusal(pool->device);
        }
    }
    pthread_mutex_unlock(&settling);
    return verdict;
}

enum mica_verdict pool_settle(struct pool *pool)
{
    if (!pool->is_owned || pool->device == NULL) {
        return MICA_GRANTED;
    }
    pthread_mutex_lock(&settling);
    enum mica_verdict verdict = settle(pool);
    pthread_mutex_unlock(&settling);
    return verdict;
}

void pool_returned(uint16_t owner, uint64_t bytes)
{
    struct pool *pool = &pools[owner_index(owner)];
    atomic_fetch_sub(&pool->used, bytes);
    if (atomic_load_explicit(&pool->is_destroyed, memory_order_relaxed)) {
        pthread_mutex_lock(&settling);
        charge_lower(pool, 0);
        pthread_mutex_unlock(&settling);
    }
}
