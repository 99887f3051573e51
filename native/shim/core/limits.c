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
    uint64_t sequence;
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

static const struct mica_slice_limits *renew(struct mica_device *device, uint64_t sequence)
{
    struct mica_slice_limits fresh;
    unsigned record = atomic_load_explicit(&device->record, memory_order_relaxed);
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
        atomic_store_explicit(&device->record, (unsigned)index, memory_order_relaxed);
        sequence = 0;
    }
    seen.device = device;
    seen.epoch = mica_attach_epoch();
    seen.sequence = sequence;
    seen.limits = fresh;
    note_generation(device->usage, fresh.generation);
    return &seen.limits;
}

const struct mica_slice_limits *mica_limits_now(struct mica_device *device)
{
    unsigned record = atomic_load_explicit(&device->record, memory_order_relaxed);
    /* Acquire pairs with the writer's release of the even number: an unmoved number means that the copy still is the record. An odd one is
     * never remembered as good, because the copy was made at an even one. */
    uint64_t sequence = atomic_load_explicit(&device->quota->records[record].sequence, memory_order_acquire);
    if (seen.sequence == sequence && seen.device == device && seen.epoch == mica_attach_epoch() && (sequence & 1) == 0 && sequence != 0) {
        return &seen.limits;
    }
    return renew(device, sequence);
}

void mica_device_touch(struct mica_device *device, uint64_t now_ns)
{
    atomic_store_explicit(&device->usage->processes[device->slot].last_seen_ns, now_ns, memory_order_relaxed);
}
