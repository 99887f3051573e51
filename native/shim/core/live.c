/* SPDX-License-Identifier: Apache-2.0
 *
 * Levels of buckets. A handle hashes to one bucket of eight entries (two cache lines) in each level. It is put into the first level with room in its
 * bucket: the `home` level first, which is the largest that what lives now needs, then those below it, then those above it, which were needed once; a level
 * is added when a handle's buckets are full in all. It is looked for in the same order. A level is half as large as those before it together, so that the table
 * is never more than a third empty for long, and a lookup meets a third of all entries in its first bucket. A program that once had a hundred thousand
 * allocations and has a thousand now works in levels that the caches hold.
 *
 * How many live is estimated from those whose hash says that they are counted, one in SAMPLED: who inserts such a handle adds it, who takes it out takes it
 * off, so that nothing drifts, and the others write no shared word. Only speed depends on it.
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
#define SAMPLED 16
#define LEVELS_LATE 3 /* what lives grows and shrinks: home goes down when a quarter of the room is needed */

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
static _Atomic unsigned home;        /* where to begin; below level_count, once there is a level */
static _Atomic int64_t counted;      /* live handles that are counted */

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

/* The largest level that so many live entries need, with half as many to spare. */
static unsigned level_for(uint64_t live)
{
    unsigned last = levels_known() - 1;
    unsigned level = 0;
    uint64_t buckets = level_size(0);
    while (level < last && buckets * BUCKET_ENTRIES < live + live / 2) {
        buckets += level_size(buckets);
        level++;
    }
    return level;
}

static __attribute__((noinline)) void count_one(int change)
{
    int64_t now = atomic_fetch_add_explicit(&counted, change, memory_order_relaxed) + change;
    unsigned needed = level_for(now > 0 ? (uint64_t)now * SAMPLED : 0);
    unsigned before = atomic_load_explicit(&home, memory_order_relaxed);
    if (needed > before || needed + LEVELS_LATE < before) {
        atomic_store_explicit(&home, needed, memory_order_relaxed);
    }
}

/* Bits that neither the bucket nor its half goes by. */
static inline bool is_counted(uint64_t hash)
{
    return (hash >> 1) % SAMPLED == 0;
}

/* The largest levels lie beyond the caches: have their buckets fetched all at once instead of one after the other. */
static void fetch(unsigned below, uint64_t hash)
{
    for (unsigned level = below; level-- > LEVELS_CACHED && below - level <= LEVELS_FETCHED;) {
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

/* From the home level down all were full. Others may add levels at the same time; one of the next has room. */
static __attribute__((noinline)) bool insert_above(unsigned level, uint64_t hash, uint64_t handle, uint64_t value)
{
    for (; level < LEVELS_MAX; level++) {
        if (level >= levels_known() && !level_add(level)) {
            return false;
        }
        if (bucket_insert(bucket_of(level, hash), hash, handle, value)) {
            return true;
        }
    }
    return false;
}

/* The levels from home down are those below this. */
static inline unsigned levels_near(void)
{
    unsigned count = levels_known();
    unsigned near = atomic_load_explicit(&home, memory_order_relaxed) + 1;
    return near < count ? near : count;
}

bool mica_live_insert(uint64_t handle, struct mica_live_entry entry)
{
    if (handle <= KEY_BUSY || entry.bytes > MICA_LIVE_BYTES_MAX) {
        return false;
    }
    uint64_t value = ((uint64_t)entry.owner << BYTES_BITS) | entry.bytes;
    uint64_t hash = hash_of(handle);
    unsigned near = levels_near();
    bool is_in = false;
    for (unsigned level = near; level-- > 0 && !is_in;) {
        is_in = bucket_insert(bucket_of(level, hash), hash, handle, value);
    }
    is_in = is_in || insert_above(near, hash, handle, value);
    if (is_in && is_counted(hash)) {
        count_one(1);
    }
    return is_in;
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

static inline bool take_in(unsigned level, uint64_t hash, uint64_t handle, struct mica_live_entry *entry)
{
    struct entry *place = find_in(bucket_of(level, hash), hash, handle);
    return place != NULL && entry_take(place, handle, entry);
}

/* What was put in when more was live. */
static __attribute__((noinline)) bool take_above(unsigned level, uint64_t hash, uint64_t handle, struct mica_live_entry *entry)
{
    for (unsigned count = levels_known(); level < count; level++) {
        if (take_in(level, hash, handle, entry)) {
            return true;
        }
    }
    return false;
}

bool mica_live_remove(uint64_t handle, struct mica_live_entry *entry)
{
    if (handle <= KEY_BUSY) {
        return false;
    }
    uint64_t hash = hash_of(handle);
    unsigned near = levels_near();
    bool is_out = false;
    fetch(near, hash);
    for (unsigned level = near; level-- > 0 && !is_out;) {
        is_out = take_in(level, hash, handle, entry);
    }
    is_out = is_out || take_above(near, hash, handle, entry);
    if (is_out && is_counted(hash)) {
        count_one(-1);
    }
    return is_out;
}

static void sweep_entry(struct entry *entry, uint16_t owner, void (*gone)(struct mica_live_entry entry))
{
    uint64_t key = atomic_load_explicit(&entry->key, memory_order_acquire);
    uint64_t value = atomic_load_explicit(&entry->value, memory_order_relaxed);
    struct mica_live_entry taken;
    if (key > KEY_BUSY && unpack(value).owner == owner && entry_take(entry, key, &taken)) {
        if (is_counted(hash_of(key))) {
            count_one(-1);
        }
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
    atomic_store_explicit(&home, 0, memory_order_relaxed);
    atomic_store_explicit(&counted, 0, memory_order_relaxed);
    while (count-- > 0) {
        munmap(bucket_of(count, 0), atomic_load_explicit(&levels[count].count, memory_order_relaxed) * sizeof(struct bucket));
        atomic_store_explicit(&levels[count].buckets, NULL, memory_order_relaxed);
    }
}

uint64_t mica_live_footprint(void)
{
    return buckets_below(levels_known()) * sizeof(struct bucket);
}
