/* SPDX-License-Identifier: Apache-2.0
 *
 * Levels of buckets. A handle hashes to one bucket of eight entries (two cache lines) in each level. It is put into the newest
 * level whose bucket has room, which is also the largest, and looked for in the same order; a level is added when a handle's
 * buckets are full in all. A level is half as large as those before it together, so that the table is never more than a third
 * empty for long, and a lookup meets a third of all entries in its first bucket.
 *
 * The key of an entry is its lock: FREE -> BUSY (taken by an inserter) -> handle -> BUSY (taken by a remover) -> FREE.
 * Between taking and giving, only the taker touches the entry. A process that is killed in between takes its table with it.
 */
#define _GNU_SOURCE
#include "live.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#define KEY_FREE 0ULL
#define KEY_BUSY 1ULL
#define BUCKET_ENTRIES 8
#define FIRST_BUCKETS 32 /* 4 KiB */
#define LEVELS_MAX 48
#define BYTES_BITS 48

struct entry {
    _Atomic uint64_t key;
    _Atomic uint64_t value; /* 63..48 owner, 47..0 bytes */
};

struct bucket {
    struct entry entries[BUCKET_ENTRIES];
};

static _Atomic(struct bucket *) levels[LEVELS_MAX];

static uint64_t buckets_in(unsigned level)
{
    uint64_t total = 0;
    uint64_t buckets = FIRST_BUCKETS;
    for (unsigned i = 0; i < level; i++) {
        total += buckets;
        buckets = total / 2 < FIRST_BUCKETS ? FIRST_BUCKETS : total / 2;
    }
    return buckets;
}

static struct bucket *bucket_of(struct bucket *buckets, unsigned level, uint64_t handle)
{
    uint64_t hash = (handle ^ (handle >> 32)) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9ULL;
    return &buckets[((hash >> 32) * buckets_in(level)) >> 32];
}

static struct bucket *level_buckets(unsigned level)
{
    /* Acquire pairs with the release in level_add: the buckets are seen zeroed. */
    return atomic_load_explicit(&levels[level], memory_order_acquire);
}

static unsigned level_count(void)
{
    unsigned count = 0;
    while (count < LEVELS_MAX && level_buckets(count) != NULL) {
        count++;
    }
    return count;
}

/* The level, added if it is not there. Of two threads that add it one wins, and the other takes the winner's. */
static struct bucket *level_add(unsigned level)
{
    size_t bytes = buckets_in(level) * sizeof(struct bucket);
    void *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return NULL;
    }
    struct bucket *winner = NULL;
    if (!atomic_compare_exchange_strong_explicit(&levels[level], &winner, fresh, memory_order_acq_rel, memory_order_acquire)) {
        munmap(fresh, bytes);
        return winner;
    }
    return fresh;
}

static bool bucket_insert(struct bucket *bucket, uint64_t handle, uint64_t value)
{
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
        struct entry *entry = &bucket->entries[i];
        uint64_t key = atomic_load_explicit(&entry->key, memory_order_relaxed);
        /* Acquire pairs with the release of FREE in entry_take: the last owner is done with the value. */
        if (key == KEY_FREE && atomic_compare_exchange_strong_explicit(&entry->key, &key, KEY_BUSY, memory_order_acquire, memory_order_relaxed)) {
            atomic_store_explicit(&entry->value, value, memory_order_relaxed);
            atomic_store_explicit(&entry->key, handle, memory_order_release); /* pairs with the acquire in entry_take */
            return true;
        }
    }
    return false;
}

bool mica_live_insert(uint64_t handle, struct mica_live_entry entry)
{
    if (handle <= KEY_BUSY || entry.bytes > MICA_LIVE_BYTES_MAX) {
        return false;
    }
    uint64_t value = ((uint64_t)entry.owner << BYTES_BITS) | entry.bytes;
    unsigned count = level_count();
    for (unsigned level = count; level-- > 0;) {
        if (bucket_insert(bucket_of(level_buckets(level), level, handle), handle, value)) {
            return true;
        }
    }
    /* Others may add levels at the same time; one of the next has room. */
    for (unsigned level = count; level < LEVELS_MAX; level++) {
        struct bucket *buckets = level_buckets(level);
        if (buckets == NULL) {
            buckets = level_add(level);
        }
        if (buckets == NULL) {
            return false;
        }
        if (bucket_insert(bucket_of(buckets, level, handle), handle, value)) {
            return true;
        }
    }
    return false;
}

static struct mica_live_entry unpack(uint64_t value)
{
    return (struct mica_live_entry){.bytes = value & MICA_LIVE_BYTES_MAX, .owner = (uint16_t)(value >> BYTES_BITS)};
}

/* Exactly one caller turns the key from the handle to BUSY, and it alone reads the value. */
static bool entry_take(struct entry *entry, uint64_t handle, struct mica_live_entry *out)
{
    uint64_t key = handle;
    if (!atomic_compare_exchange_strong_explicit(&entry->key, &key, KEY_BUSY, memory_order_acquire, memory_order_relaxed)) {
        return false;
    }
    *out = unpack(atomic_load_explicit(&entry->value, memory_order_relaxed));
    atomic_store_explicit(&entry->key, KEY_FREE, memory_order_release); /* pairs with the acquire in bucket_insert */
    return true;
}

bool mica_live_remove(uint64_t handle, struct mica_live_entry *entry)
{
    if (handle <= KEY_BUSY) {
        return false;
    }
    for (unsigned level = level_count(); level-- > 0;) {
        struct bucket *bucket = bucket_of(level_buckets(level), level, handle);
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t key = atomic_load_explicit(&bucket->entries[i].key, memory_order_relaxed);
            if (key == handle && entry_take(&bucket->entries[i], handle, entry)) {
                return true;
            }
        }
    }
    return false;
}

static void sweep_entry(struct entry *entry, uint16_t owner, void (*gone)(struct mica_live_entry entry))
{
    uint64_t key = atomic_load_explicit(&entry->key, memory_order_acquire);
    uint64_t value = atomic_load_explicit(&entry->value, memory_order_relaxed);
    struct mica_live_entry taken;
    if (key > KEY_BUSY && unpack(value).owner == owner && entry_take(entry, key, &taken)) {
        gone(taken);
    }
}

void mica_live_sweep(uint16_t owner, void (*gone)(struct mica_live_entry entry))
{
    for (unsigned level = level_count(); level-- > 0;) {
        struct bucket *buckets = level_buckets(level);
        uint64_t count = buckets_in(level);
        for (uint64_t i = 0; i < count * BUCKET_ENTRIES; i++) {
            sweep_entry(&buckets[i / BUCKET_ENTRIES].entries[i % BUCKET_ENTRIES], owner, gone);
        }
    }
}

void mica_live_forget(void)
{
    for (unsigned level = level_count(); level-- > 0;) {
        munmap(level_buckets(level), buckets_in(level) * sizeof(struct bucket));
        atomic_store_explicit(&levels[level], NULL, memory_order_release);
    }
}

uint64_t mica_live_footprint(void)
{
    uint64_t bytes = 0;
    for (unsigned level = level_count(); level-- > 0;) {
        bytes += buckets_in(level) * sizeof(struct bucket);
    }
    return bytes;
}
