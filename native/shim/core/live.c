/* SPDX-License-Identifier: Apache-2.0
 *
 * Levels of buckets, each twice as large as the one before. A handle hashes to one bucket of eight entries (two cache lines) in each level. At the `home` level a
 * handle is put and looked for first, and nearly always found, once a program has been freeing and allocating for a while. If its bucket is full
 * there is one by a second hash, then those of smaller levels, and then a level is added. The next level is home when this one is nearly full, and the one
 * before when what lives would fill a quarter of that. What was put in when home was another level stays where it is, and is found by looking into the others. So a program that
 * once had a hundred thousand allocations and has a thousand now works in a level that the caches hold.
 *
 * How full a level is, is estimated from those whose hash says that they are counted, one in SAMPLED: who inserts such a handle adds it, who takes it out takes it
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
#define LINE_ENTRIES 4
#define BUCKETS_FIRST 32ULL /* 4 KiB */
#define ROOM_PCT 80         /* of a level's entries: in a fuller one too many buckets are full */
#define LATE 4              /* what lives grows and shrinks: home shrinks when it is so many times too large ... */
#define SHRINK_AFTER 64     /* ... at one in so many looks */
#define FETCHED_LEVEL 8     /* levels from 1 MiB on lie beyond the nearest caches */
#define LEVELS_MAX 23       /* the last has 2^27 buckets: a billion entries */
#define NOWHERE (-1)
#define BYTES_BITS 48
#define SAMPLED 16

struct entry {
    _Atomic uint64_t key;
    _Atomic uint64_t value; /* 63..48 owner, 47..0 bytes */
};

struct bucket {
    _Alignas(128) struct entry entries[BUCKET_ENTRIES];
};

static _Atomic(struct bucket *) levels[LEVELS_MAX]; /* each is written once */
static _Atomic unsigned level_count;                /* levels below it have buckets */
static _Atomic unsigned home;                       /* below level_count, once there is a level */
static _Atomic int64_t counted[LEVELS_MAX];         /* handles in each that are counted */

static inline uint64_t hash_of(uint64_t handle)
{
    unsigned __int128 product = (unsigned __int128)handle * 0x9e3779b97f4a7c15ULL;
    return (uint64_t)(product >> 64) ^ (uint64_t)(product >> 32);
}

/* Of both, the low 27 bits say which bucket and bit 31 which of its lines comes first; the first's other bits say whether it is counted. */
static inline uint64_t second_of(uint64_t hash)
{
    return hash >> 32;
}

/* The entries of a line whose key this is, or was a moment ago: bit i says entry i. No branch: which it is cannot be foreseen. */
static inline unsigned line_find(const struct entry *line, uint64_t key)
{
    unsigned found = 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < LINE_ENTRIES; i++) {
        found |= (unsigned)(atomic_load_explicit(&line[i].key, memory_order_relaxed) == key) << i;
    }
    return found;
}

/* An entry of the bucket that had this key a moment ago, or NULL. The hash says in which line to look, and to put, first. */
static inline struct entry *bucket_find(struct bucket *bucket, uint64_t hash, uint64_t key)
{
    struct entry *line = &bucket->entries[hash >> 31 & 1 ? LINE_ENTRIES : 0];
    unsigned found = line_find(line, key);
    if (found == 0) {
        line = &bucket->entries[hash >> 31 & 1 ? 0 : LINE_ENTRIES];
        found = line_find(line, key);
    }
    return found != 0 ? &line[__builtin_ctz(found)] : NULL;
}

/* --- Levels ------------------------------------------------------------------------------------------------------------- */

static unsigned levels_known(void)
{
    /* Acquire pairs with the release in level_add: the level's word is seen, and its buckets zeroed. */
    return atomic_load_explicit(&level_count, memory_order_acquire);
}

static inline unsigned home_known(void)
{
    return atomic_load_explicit(&home, memory_order_acquire); /* pairs with the release in count_one */
}

static uint64_t level_size(unsigned level)
{
    return BUCKETS_FIRST << level;
}

/* `level` has buckets: it was below a level_count or was home. */
static inline struct bucket *bucket_of(unsigned level, uint64_t hash)
{
    return &atomic_load_explicit(&levels[level], memory_order_relaxed)[hash & (level_size(level) - 1)];
}

/* Add `level`, all below it being there. Of two threads that add it one wins, and the other takes the winner's. False: no memory. */
static bool level_add(unsigned level)
{
    size_t bytes = level_size(level) * sizeof(struct bucket);
    struct bucket *none = NULL;
    void *fresh = level < LEVELS_MAX ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
    if (fresh == MAP_FAILED) {
        return false;
    }
    if (!atomic_compare_exchange_strong_explicit(&levels[level], &none, fresh, memory_order_acq_rel, memory_order_acquire)) {
        munmap(fresh, bytes);
    }
    unsigned known = level;
    /* Release pairs with the acquire in levels_known. If it fails, others have counted this level, and perhaps more. */
    atomic_compare_exchange_strong_explicit(&level_count, &known, level + 1, memory_order_acq_rel, memory_order_acquire);
    return true;
}

static bool levels_make(unsigned count)
{
    unsigned known;
    while ((known = levels_known()) < count) {
        if (!level_add(known)) {
            return false;
        }
    }
    return true;
}

/* Entries that a level has room for. */
static int64_t level_room(unsigned level)
{
    return (int64_t)(level_size(level) * BUCKET_ENTRIES * ROOM_PCT / 100);
}

static int64_t live_estimate(void)
{
    int64_t sum = 0;
    for (unsigned level = levels_known(); level-- > 0;) {
        sum += atomic_load_explicit(&counted[level], memory_order_relaxed);
    }
    return sum * SAMPLED;
}

/* A handle that is counted came into a level, or was taken out of it. */
static __attribute__((noinline)) void count_one(unsigned level, uint64_t hash, int change)
{
    int64_t now = atomic_fetch_add_explicit(&counted[level], change, memory_order_relaxed) + change;
    unsigned before = home_known();
    bool is_full = level == before && now * SAMPLED > level_room(level) && levels_make(before + 2);
    bool is_late = !is_full && before > 0 && (second_of(hash) >> 24) % SHRINK_AFTER == 0 && live_estimate() * LATE <= level_room(before);
    if (is_full || is_late) {
        /* Release pairs with the acquire in home_known. */
        atomic_compare_exchange_strong_explicit(&home, &before, is_full ? before + 1 : before - 1, memory_order_release, memory_order_relaxed);
    }
}

/* Bits that no bucket nor line goes by. */
static inline bool is_counted(uint64_t hash)
{
    return (hash >> 27) % SAMPLED == 0;
}

/* Where an entry may be in a large home level, fetched all at once instead of one after the other. */
static inline void fetch(unsigned near, uint64_t hash)
{
    if (near >= FETCHED_LEVEL) {
        __builtin_prefetch(&bucket_of(near, hash)->entries[0], 1);
        __builtin_prefetch(&bucket_of(near, hash)->entries[LINE_ENTRIES], 1);
        __builtin_prefetch(&bucket_of(near, second_of(hash))->entries[0], 1);
        __builtin_prefetch(&bucket_of(near, second_of(hash))->entries[LINE_ENTRIES], 1);
    }
}

/* --- Entries ------------------------------------------------------------------------------------------------------------ */

static inline bool bucket_insert(struct bucket *bucket, uint64_t hash, uint64_t handle, uint64_t value)
{
    struct entry *entry;
    while ((entry = bucket_find(bucket, hash, KEY_FREE)) != NULL) {
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

/* Into the handle's bucket in one of the levels below `end`, from the largest down. Returns which, or NOWHERE. */
static int insert_below(unsigned end, uint64_t hash, uint64_t handle, uint64_t value)
{
    for (unsigned level = end; level-- > 0;) {
        if (bucket_insert(bucket_of(level, hash), hash, handle, value)) {
            return (int)level;
        }
    }
    return NOWHERE;
}

/* The home bucket is full, or there is no level yet. Returns where it is, or NOWHERE. */
static __attribute__((noinline)) int insert_elsewhere(unsigned near, uint64_t hash, uint64_t handle, uint64_t value)
{
    unsigned known = levels_known();
    uint64_t second = second_of(hash);
    int level = known > 0 ? insert_below(near + 1, second, handle, value) : NOWHERE;
    level = level == NOWHERE && known > 0 ? insert_below(near, hash, handle, value) : level;
    for (unsigned above = known > 0 ? near + 1 : 0; level == NOWHERE && levels_make(above + 1); above++) {
        if (bucket_insert(bucket_of(above, hash), hash, handle, value) || bucket_insert(bucket_of(above, second), second, handle, value)) {
            level = (int)above;
        }
    }
    return level;
}

bool mica_live_insert(uint64_t handle, struct mica_live_entry entry)
{
    if (handle <= KEY_BUSY || entry.bytes > MICA_LIVE_BYTES_MAX) {
        return false;
    }
    uint64_t value = ((uint64_t)entry.owner << BYTES_BITS) | entry.bytes;
    uint64_t hash = hash_of(handle);
    unsigned near = home_known();
    int level = (int)near;
    fetch(near, hash);
    if (levels_known() == 0 || !bucket_insert(bucket_of(near, hash), hash, handle, value)) {
        level = insert_elsewhere(near, hash, handle, value);
    }
    if (level != NOWHERE && is_counted(hash)) {
        count_one((unsigned)level, hash, 1);
    }
    return level != NOWHERE;
}

static struct mica_live_entry unpack(uint64_t value)
{
    return (struct mica_live_entry){.bytes = value & MICA_LIVE_BYTES_MAX, .owner = (uint16_t)(value >> BYTES_BITS)};
}

/* Exactly one caller turns the key from the handle to BUSY, and it alone reads the value. */
static inline bool entry_take(struct entry *entry, uint64_t handle, struct mica_live_entry *out)
{
    uint64_t key = handle;
    if (!atomic_compare_exchange_strong_explicit(&entry->key, &key, KEY_BUSY, memory_order_acquire, memory_order_relaxed)) {
        return false;
    }
    *out = unpack(atomic_load_explicit(&entry->value, memory_order_relaxed));
    atomic_store_explicit(&entry->key, KEY_FREE, memory_order_release); /* pairs with the acquire in bucket_insert */
    return true;
}

static inline bool bucket_take(struct bucket *bucket, uint64_t hash, uint64_t handle, struct mica_live_entry *entry)
{
    struct entry *place = bucket_find(bucket, hash, handle);
    return place != NULL && entry_take(place, handle, entry);
}

/* From the handle's bucket in one of the levels from `first` on, below `end`, from the largest down. Returns which, or NOWHERE. */
static int take_between(unsigned first, unsigned end, uint64_t hash, uint64_t handle, struct mica_live_entry *entry)
{
    for (unsigned level = end; level-- > first;) {
        if (bucket_take(bucket_of(level, hash), hash, handle, entry)) {
            return (int)level;
        }
    }
    return NOWHERE;
}

/* Not in the home bucket: that was full, or home was another when this was put in. Returns where it was, or NOWHERE. */
static __attribute__((noinline)) int take_elsewhere(unsigned near, uint64_t hash, uint64_t handle, struct mica_live_entry *entry)
{
    unsigned known = levels_known();
    uint64_t second = second_of(hash);
    int level = take_between(near, near + 1, second, handle, entry);
    level = level != NOWHERE ? level : take_between(0, near, hash, handle, entry);
    level = level != NOWHERE ? level : take_between(near + 1, known, hash, handle, entry);
    level = level != NOWHERE ? level : take_between(0, near, second, handle, entry);
    return level != NOWHERE ? level : take_between(near + 1, known, second, handle, entry);
}

bool mica_live_remove(uint64_t handle, struct mica_live_entry *entry)
{
    uint64_t hash = hash_of(handle);
    unsigned near = home_known();
    if (handle <= KEY_BUSY || levels_known() == 0) {
        return false;
    }
    int level = (int)near;
    fetch(near, hash);
    if (!bucket_take(bucket_of(near, hash), hash, handle, entry)) {
        level = take_elsewhere(near, hash, handle, entry);
    }
    if (level != NOWHERE && is_counted(hash)) {
        count_one((unsigned)level, hash, -1);
    }
    return level != NOWHERE;
}

static void sweep_entry(unsigned level, struct entry *entry, uint16_t owner, void (*gone)(struct mica_live_entry entry))
{
    uint64_t key = atomic_load_explicit(&entry->key, memory_order_acquire);
    uint64_t value = atomic_load_explicit(&entry->value, memory_order_relaxed);
    struct mica_live_entry taken;
    if (key > KEY_BUSY && unpack(value).owner == owner && entry_take(entry, key, &taken)) {
        uint64_t hash = hash_of(key);
        if (is_counted(hash)) {
            count_one(level, hash, -1);
        }
        gone(taken);
    }
}

void mica_live_sweep(uint16_t owner, void (*gone)(struct mica_live_entry entry))
{
    for (unsigned level = levels_known(); level-- > 0;) {
        struct bucket *buckets = bucket_of(level, 0);
        for (uint64_t i = 0; i < level_size(level) * BUCKET_ENTRIES; i++) {
            sweep_entry(level, &buckets[i / BUCKET_ENTRIES].entries[i % BUCKET_ENTRIES], owner, gone);
        }
    }
}

void mica_live_forget(void)
{
    unsigned count = levels_known();
    atomic_store_explicit(&level_count, 0, memory_order_release);
    atomic_store_explicit(&home, 0, memory_order_relaxed);
    while (count-- > 0) {
        munmap(bucket_of(count, 0), level_size(count) * sizeof(struct bucket));
        atomic_store_explicit(&levels[count], NULL, memory_order_relaxed);
        atomic_store_explicit(&counted[count], 0, memory_order_relaxed);
    }
}

uint64_t mica_live_footprint(void)
{
    unsigned count = levels_known();
    return count > 0 ? (level_size(count) - BUCKETS_FIRST) * sizeof(struct bucket) : 0;
}
