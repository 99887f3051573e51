/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "fault.h"
#include "nap.h"

#include <errno.h>

/* The limits, once the slice is not suspended. What is asked for while it is waits here, as calls that have reached the driver wait there: nothing that the device's
 * books do not know of may come to be on it, and no program is to take that for a lack of memory. */
static const struct mica_slice_limits *limits_awake(struct mica_device *device)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    while (limits != NULL && limits->control == MICA_CONTROL_SUSPEND) {
        mica_nap(MICA_NAP_MAX_NS);
        limits = mica_limits_now(device);
    }
    return limits;
}

static enum mica_verdict permit(struct mica_device *device, const struct mica_slice_limits *limits)
{
    if (limits == NULL) {
        return MICA_FORBIDDEN;
    }
    if (limits->control == MICA_CONTROL_KILL) {
        return MICA_KILLED;
    }
    if (limits->control == MICA_CONTROL_DRAIN || limits->state == MICA_SLICE_DRAINING) {
        atomic_fetch_add_explicit(&device->usage->refusals, 1, memory_order_relaxed);
        return MICA_NO_MEMORY;
    }
    return MICA_GRANTED;
}

enum mica_verdict mica_memory_permit(struct mica_device *device)
{
    return permit(device, limits_awake(device));
}

void mica_memory_uncount_refusal(struct mica_device *device)
{
    atomic_fetch_sub_explicit(&device->usage->refusals, 1, memory_order_relaxed);
}

enum mica_verdict mica_memory_charge(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes)
{
    const struct mica_slice_limits *limits = limits_awake(device);
    enum mica_verdict verdict = permit(device, limits);
    if (verdict != MICA_GRANTED) {
        return verdict;
    }
    struct mica_charge charge;
    uint64_t limit_bytes = kind == MICA_MEMORY_VRAM ? limits->vram_limit_bytes : limits->pinned_limit_bytes != 0 ? limits->pinned_limit_bytes : UINT64_MAX;
    int result = mica_charge_make(device->usage, device->slot, kind, bytes, limit_bytes, &charge);
    if (result == -ESTALE) {
        return mica_fault_slot_lost(device) ? MICA_GRANTED : MICA_FORBIDDEN;
    }
    return result == 0 ? MICA_GRANTED : MICA_NO_MEMORY;
}

void mica_memory_refund(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes)
{
    struct mica_charge charge = {.bytes = bytes, .kind = kind};
    mica_charge_refund(device->usage, device->slot, &charge);
}

uint64_t mica_memory_free(struct mica_device *device, const struct mica_slice_limits *limits)
{
    uint64_t used = mica_charge_sum(device->usage, MICA_MEMORY_VRAM);
    return used < limits->vram_limit_bytes ? limits->vram_limit_bytes - used : 0;
}
