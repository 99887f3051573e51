/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake driver's one pool, which takes 32 MiB from the device at a time and hands out 512 bytes and multiples. What is freed it keeps until it is
 * trimmed, or until the program waits while it is over its threshold.
 */
#include <stddef.h>
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))
#define SUCCESS 0
#define CHUNK_BYTES (32ULL << 20)
#define POOL_ADDRESS 0x600000000000ULL

static char one_pool;
static uint64_t pool_next = POOL_ADDRESS;
static uint64_t pool_used;
static uint64_t pool_reserved;
static uint64_t pool_threshold;

/* An allocation's address tells its size: the lowest 20 bits are its units of 512 bytes. */
static uint64_t pool_units(size_t bytes)
{
    return (bytes + 511) / 512;
}

PUBLIC int cuDeviceGetMemPool(void **pool, int device)
{
    (void)device;
    *pool = &one_pool;
    return SUCCESS;
}

static void pool_release(uint64_t keep_bytes)
{
    uint64_t used = __atomic_load_n(&pool_used, __ATOMIC_SEQ_CST);
    uint64_t least = (used > keep_bytes ? used : keep_bytes) + CHUNK_BYTES - 1;
    uint64_t wanted = least / CHUNK_BYTES * CHUNK_BYTES;
    if (wanted < __atomic_load_n(&pool_reserved, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&pool_reserved, wanted, __ATOMIC_SEQ_CST);
    }
}

PUBLIC int cuMemAllocAsync(uint64_t *address, size_t bytes, void *stream)
{
    uint64_t units = pool_units(bytes);
    (void)stream;
    *address = __atomic_fetch_add(&pool_next, 1ULL << 20, __ATOMIC_RELAXED) | units;
    uint64_t used = __atomic_add_fetch(&pool_used, units * 512, __ATOMIC_SEQ_CST);
    uint64_t reserved = __atomic_load_n(&pool_reserved, __ATOMIC_SEQ_CST);
    while (reserved < used && !__atomic_compare_exchange_n(&pool_reserved, &reserved, (used + CHUNK_BYTES - 1) / CHUNK_BYTES * CHUNK_BYTES, 0,
                                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return SUCCESS;
}

PUBLIC int cuMemFreeAsync(uint64_t address, void *stream)
{
    (void)stream;
    if (address < POOL_ADDRESS || address >= 0x700000000000ULL) {
        return 1;
    }
    __atomic_sub_fetch(&pool_used, (address & ((1ULL << 20) - 1)) * 512, __ATOMIC_SEQ_CST);
    return SUCCESS;
}

PUBLIC int cuMemPoolTrimTo(void *pool, size_t keep_bytes)
{
    (void)pool;
    pool_release(keep_bytes);
    return SUCCESS;
}

PUBLIC int cuMemPoolSetAttribute(void *pool, int attribute, const uint64_t *value)
{
    (void)pool;
    pool_threshold = attribute == 4 ? *value : pool_threshold;
    return SUCCESS;
}

PUBLIC int cuMemPoolGetAttribute(void *pool, int attribute, uint64_t *value)
{
    (void)pool;
    *value = attribute == 5 ? __atomic_load_n(&pool_reserved, __ATOMIC_SEQ_CST) : __atomic_load_n(&pool_used, __ATOMIC_SEQ_CST);
    return SUCCESS;
}

void fake_pool_waited(void)
{
    pool_release(pool_threshold);
}
