/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader's side of a quota record: one copy per thread, renewed when the record's sequence number moves.
 */
#include "limits.h"

#include "attach.h"
#include "fault.h"

#include <errno.h>
#include <string.h>

/* What this thread read last. It is this thread's alone, so it needs no sequence lock of its own. */
static _Thread_local struct {
    const struct mica_device *device;
    uint64_t epoch;
    const MICA_ATOMIC_U64 *word; /* the sequence number of the record that was read, which says which record of which device it was ... */
    uint64_t sequence;           /* ... and what it was */
    struct mica_slice_limits limits;
} seen;

static void note_generation(struct mica_usage_region *usage, uint64_t generation)
{
    uint64_t known = atomic_load_explicit(&usage->generation_seen, memory_order_relaxed);
    while (known < generation &&
           !atomic_compare_exchange_weak_explicit(&usage->generation_seen, &known, generation, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static bool is_ours(const struct mica_slice_limits *limits)
{
    const struct mica_slice *slice = mica_attached_slice();
    return limits->state != MICA_SLICE_FREE && memcmp(limits->slice_id, slice->id_words, sizeof slice->id_words) == 0;
}

static const MICA_ATOMIC_U64 *sequence_word(const struct mica_device *device, unsigned record)
{
    return &device->quota->records[record].sequence;
}

#define SEQUENCE_NONE UINT64_MAX /* no record ever gets there */

/* Apart from mica_limits_now, which every call goes through and which is short without it. */
static __attribute__((noinline)) const struct mica_slice_limits *renew(struct mica_device *device, unsigned record, uint64_t sequence)
{
    struct mica_slice_limits fresh;
    bool have_last = seen.device == device && seen.epoch == mica_attach_epoch();
    int result = mica_quota_read(device->quota, record, &fresh);
    if (result == -EAGAIN) {
        return have_last ? &seen.limits : &device->limits;
    }
    if (!is_ours(&fresh)) {
        int index = mica_quota_find(device->quota, mica_attached_slice()->id_words, &fresh);
        if (index == -EAGAIN) {
            return have_last ? &seen.limits : &device->limits;
        }
        if (index < 0) {
            return !mica_fault_vanished(device) ? NULL : have_last ? &seen.limits : &device->limits;
        }
        record = (unsigned)index;
        atomic_store_explicit(&device->record, record, memory_order_relaxed);
        sequence = SEQUENCE_NONE; /* it was the other record's */
    }
    seen.device = device;
    seen.word = sequence_word(device, record);
    seen.epoch = mica_attach_epoch();
    seen.sequence = sequence;
    seen.limits = fresh;
    note_generation(device->usage, fresh.generation);
    return &seen.limits;
}

const struct mica_slice_limits *mica_limits_now(struct mica_device *device)
{
    unsigned record = atomic_load_explicit(&device->record, memory_order_relaxed);
    /* Acquire pairs with the writer's release of the even number: an unmoved number means that the copy still is the record. An odd number may be kept, but
     * is never met again: the copy was made at the even one after it. */
    const MICA_ATOMIC_U64 *word = sequence_word(device, record);
    uint64_t sequence = atomic_load_explicit(word, memory_order_acquire);
    if (seen.sequence == sequence && seen.word == word && seen.epoch == mica_attach_epoch()) {
        return &seen.limits;
    }
    return renew(device, record, sequence);
}

void mica_device_touch(struct mica_device *device, uint64_t now_ns)
{
    atomic_store_explicit(&device->usage->processes[device->slot].last_seen_ns, now_ns, memory_order_relaxed);
}
