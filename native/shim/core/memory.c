/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "fault.h"

#include <errno.h>

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
    return permit(device, mica_limits_now(device));
}

void mica_memory_uncount_refusal(struct mica_device *device)
{
    atomic_fetch_sub_explicit(&device->usage->refusals, 1, memory_order_relaxed);
}

enum mica_verdict mica_memory_charge(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
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
