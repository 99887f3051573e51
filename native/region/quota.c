/* SPDX-License-Identifier: Apache-2.0
 *
 * Quota records: a sequence lock with one writer, the enforcer, and any number of readers that never write.
 *
 * Prior art: Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012), figure 6.
 */
#include <errno.h>
#include <string.h>

#include "region.h"

/* A write takes well under a microsecond; who loses this often meets a writer that was preempted or has died. */
#define READ_ATTEMPTS 64

static void fields_store(struct mica_slice_record *record, const struct mica_slice_limits *limits)
{
    for (unsigned i = 0; i < MICA_ID_WORDS; i++)
        atomic_store_explicit(&record->slice_id[i], limits->slice_id[i], memory_order_relaxed);
#define STORE(name) atomic_store_explicit(&record->name, limits->name, memory_order_relaxed);
    MICA_SLICE_FIELDS(STORE)
#undef STORE
}

static void fields_load(const struct mica_slice_record *record, struct mica_slice_limits *limits)
{
    for (unsigned i = 0; i < MICA_ID_WORDS; i++)
        limits->slice_id[i] = atomic_load_explicit(&record->slice_id[i], memory_order_relaxed);
#define LOAD(name) limits->name = atomic_load_explicit(&record->name, memory_order_relaxed);
    MICA_SLICE_FIELDS(LOAD)
#undef LOAD
}

void mica_quota_write(struct mica_quota_region *region, unsigned index, const struct mica_slice_limits *limits)
{
    struct mica_slice_record *record = &region->records[index];
    /* Odd already: a writer died inside. The record is still invisible, and goes on being so until it is whole. */
    uint64_t odd = atomic_load_explicit(&record->sequence, memory_order_relaxed) | 1;
    atomic_store_explicit(&record->sequence, odd, memory_order_relaxed);
    /* Pairs with the acquire fence in mica_quota_read: a reader that loaded any field stored below sees the odd
     * sequence, or a later one, when it rechecks. */
    atomic_thread_fence(memory_order_release);
    fields_store(record, limits);
    /* Pairs with the acquire load in mica_quota_read: a reader that starts from this even sequence sees these fields. */
    atomic_store_explicit(&record->sequence, odd + 1, memory_order_release);
}

int mica_quota_repair(struct mica_quota_region *region)
{
    static const struct mica_slice_limits nobody = {.state = MICA_SLICE_FREE};
    int repaired = 0;
    for (unsigned i = 0; i < MICA_SLICES_MAX; i++) {
        if ((atomic_load_explicit(&region->records[i].sequence, memory_order_relaxed) & 1) == 0)
            continue;
        mica_quota_write(region, i, &nobody);
        repaired++;
    }
    return repaired;
}

void mica_quota_heartbeat(struct mica_quota_region *region, uint64_t now_ns)
{
    /* Relaxed: the words stand for themselves; nothing is published through them. */
    atomic_store_explicit(&region->header.wall_ahead_ns, mica_wall_ahead_ns(), memory_order_relaxed);
    atomic_store_explicit(&region->header.heartbeat_ns, now_ns, memory_order_relaxed);
}

int mica_quota_read(const struct mica_quota_region *region, unsigned index, struct mica_slice_limits *out)
{
    if (index >= MICA_SLICES_MAX)
        return -EINVAL;
    const struct mica_slice_record *record = &region->records[index];
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        /* Pairs with the release store that ends mica_quota_write. */
        uint64_t before = atomic_load_explicit(&record->sequence, memory_order_acquire);
        if (before & 1)
            continue;
        struct mica_slice_limits copy;
        fields_load(record, &copy);
        /* Pairs with the release fence in mica_quota_write: the recheck is not older than the fields. */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&record->sequence, memory_order_relaxed) == before) {
            *out = copy;
            return 0;
        }
    }
    return -EAGAIN;
}

/* Is the record FREE, for certain? Most are, and need not be copied to be told apart. */
static bool record_is_free(const struct mica_slice_record *record)
{
    /* As mica_quota_read. */
    uint64_t before = atomic_load_explicit(&record->sequence, memory_order_acquire);
    uint64_t state = atomic_load_explicit(&record->state, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return (before & 1) == 0 && state == MICA_SLICE_FREE && atomic_load_explicit(&record->sequence, memory_order_relaxed) == before;
}

int mica_quota_find(const struct mica_quota_region *region, const uint64_t slice_id[MICA_ID_WORDS], struct mica_slice_limits *out)
{
    int missing = -ENOENT;
    for (unsigned i = 0; i < MICA_SLICES_MAX; i++) {
        struct mica_slice_limits copy;
        if (record_is_free(&region->records[i]))
            continue;
        int rc = mica_quota_read(region, i, &copy);
        if (rc < 0) {
            missing = rc; /* it may have been this one: say so instead of "no such slice" */
            continue;
        }
        if (copy.state == MICA_SLICE_FREE || memcmp(copy.slice_id, slice_id, sizeof copy.slice_id) != 0)
            continue;
        *out = copy;
        return (int)i;
    }
    return missing;
}
