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
#define LEVELS_CACHED 9  /* together 5,000 entries, which a core keeps near by itself */
#define LEVELS_FETCHED 5
#define BYTES_BITS 48

struct entry {
    _Atomic uint64_t key;
    _Atomic uint64_t value; /* 63..48 owner, 47..0 bytes */
};

struct bucket {
    struct entry entries[BUCKET_ENTRIES];
};

/* A level: `count` buckets. Both words are written once, the count first. */
static struct level {
    _Atomic uint64_t count;
    _Atomic(struct bucket *) buckets;
} levels[LEVELS_MAX];
static _Atomic unsigned level_count; /* levels below it have buckets */

static uint64_t hash_of(uint64_t handle)
{
    uint64_t hash = (handle ^ (handle >> 32)) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29;
    return hash * 0xbf58476d1ce4e5b9ULL >> 32;
}

/* `level` has buckets. */
static struct bucket *bucket_of(unsigned level, uint64_t hash)
{
    /* Relaxed: whoever read a level_count above this level by acquire sees both words. */
    uint64_t count = atomic_load_explicit(&levels[level].count, memory_order_relaxed);
    struct bucket *buckets = atomic_load_explicit(&levels[level].buckets, memory_order_relaxed);
    return &buckets[hash * count >> 32];
}

/* A half of a bucket is one cache line. This is the one where a handle is looked for and put first. */
static struct entry *first_half(struct bucket *bucket, uint64_t hash)
{
    return &bucket->entries[hash & 1 ? BUCKET_ENTRIES / 2 : 0];
}

static struct entry *find_in_half(struct entry *half, uint64_t key)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < BUCKET_ENTRIES / 2; i++) {
        if (atomic_load_explicit(&half[i].key, memory_order_relaxed) == key) {
            return &half[i];
        }
    }
    return NULL;
}

/* An entry of the bucket that had this key a moment ago, or NULL. */
static struct entry *find_in(struct bucket *bucket, uint64_t hash, uint64_t key)
{
    struct entry *found = find_in_half(first_half(bucket, hash), key);
    return found != NULL ? found : find_in_half(first_half(bucket, ~hash), key);
}

static unsigned levels_known(void)
{
    /* Acquire pairs with the release in level_add: the levels' words are seen, and the buckets zeroed. */
    return atomic_load_explicit(&level_count, memory_order_acquire);
}

/* Half as large as those before it together, which are `total` buckets. */
static uint64_t level_size(uint64_t total)
{
    return total / 2 < FIRST_BUCKETS ? FIRST_BUCKETS : total / 2;
}

static uint64_t buckets_below(unsigned level)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < level; i++) {
        total += level_size(total);
    }
    return total;
}

/* Add `level`, all below it being there. Of two threads that add it one wins, and the other takes the winner's. False: no memory. */
static bool level_add(unsigned level)
{
    uint64_t count = level_size(buckets_below(level));
    size_t bytes = count * sizeof(struct bucket);
    void *fresh = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) {
        return false;
    }
    struct bucket *winner = NULL;
    atomic_store_explicit(&levels[level].count, count, memory_order_relaxed); /* the same whoever stores it */
    if (!atomic_compare_exchange_strong_explicit(&levels[level].buckets, &winner, fresh, memory_order_acq_rel, memory_order_acquire)) {
        munmap(fresh, bytes);
    }
    unsigned known = level;
    /* Release pairs with the acquire in levels_known. If it fails, others have counted this level, and perhaps more. */
    atomic_compare_exchange_strong_explicit(&level_count, &known, level + 1, memory_order_acq_rel, memory_order_acquire);
    return true;
}

/* The largest levels lie beyond the caches: have their buckets fetched all at once instead of one after the other. */
static void fetch(unsigned count, uint64_t hash)
{
    for (unsigned level = count; level-- > LEVELS_CACHED && count - level <= LEVELS_FETCHED;) {
        __builtin_prefetch(first_half(bucket_of(level, hash), hash), 1);
    }
}

static inline bool bucket_insert(struct bucket *bucket, uint64_t hash, uint64_t handle, uint64_t value)
{
    struct entry *entry;
    while ((entry = find_in(bucket, hash, KEY_FREE)) != NULL) {
        uint64_t key = KEY_FREE;
        /* Acquire pairs with the release of FREE in entry_take: the last owner is done with the value. */
        if (atomic_compare_exchange_strong_explicit(&entry->key, &key, KEY_BUSY, memory_order_acquire, memory_order_relaxed)) {
            atomic_store_explicit(&entry->value, value, memory_order_relaxed);
            atomic_store_explicit(&entry->key, handle, memory_order_release); /* pairs with the acquire in entry_take */
            return true;
        }
    }
    return false;
}

/* Every level below `count` was full. Others may add levels at the same time; one of the next has room. */
static __attribute__((noinline)) bool insert_above(unsigned count, uint64_t hash, uint64_t handle, uint64_t value)
{
    for (unsigned level = count; level < LEVELS_MAX; level++) {
        if (level >= levels_known() && !level_add(level)) {
            return false;
        }
        if (bucket_insert(bucket_of(level, hash), hash, handle, value)) {
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
    uint64_t hash = hash_of(handle);
    unsigned count = levels_known();
    for (unsigned level = count; level-- > 0;) {
        if (bucket_insert(bucket_of(level, hash), hash, handle, value)) {
            return true;
        }
    }
    return insert_above(count, hash, handle, value);
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
    uint64_t hash = hash_of(handle);
    unsigned count = levels_known();
    fetch(count, hash);
    for (unsigned level = count; level-- > 0;) {
        struct entry *place = find_in(bucket_of(level, hash), hash, handle);
        if (place != NULL && entry_take(place, handle, entry)) {
            return true;
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
    for (unsigned level = levels_known(); level-- > 0;) {
        struct bucket *buckets = bucket_of(level, 0);
        uint64_t count = atomic_load_explicit(&levels[level].count, memory_order_relaxed);
        for (uint64_t i = 0; i < count * BUCKET_ENTRIES; i++) {
            sweep_entry(&buckets[i / BUCKET_ENTRIES].entries[i % BUCKET_ENTRIES], owner, gone);
        }
    }
}

void mica_live_forget(void)
{
    unsigned count = levels_known();
    atomic_store_explicit(&level_count, 0, memory_order_release);
    while (count-- > 0) {
        munmap(bucket_of(count, 0), atomic_load_explicit(&levels[count].count, memory_order_relaxed) * sizeof(struct bucket));
        atomic_store_explicit(&levels[count].buckets, NULL, memory_order_relaxed);
    }
}

uint64_t mica_live_footprint(void)
{
    return buckets_below(levels_known()) * sizeof(struct bucket);
}
