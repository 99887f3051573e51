/* SPDX-License-Identifier: Apache-2.0 */
#include "copy.h"

#include "nap.h"

#define SECOND_NS 1000000000ULL

bool mica_copy_is_free(struct mica_device *device)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    return limits != NULL && limits->copy_bytes_per_s == 0 && limits->control != MICA_CONTROL_KILL;
}

static uint64_t copy_ns(uint64_t bytes, uint64_t bytes_per_s)
{
    unsigned __int128 ns = (unsigned __int128)bytes * SECOND_NS / bytes_per_s;
    return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

static void account(struct mica_device *device, uint64_t bytes)
{
    atomic_fetch_add_explicit(&device->usage->copied_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->usage->processes[device->slot].copied_bytes, bytes, memory_order_relaxed);
}

enum mica_verdict mica_copy_admit(struct mica_device *device, uint64_t bytes)
{
    for (uint64_t last_ns = 0;;) {
        const struct mica_slice_limits *limits = mica_limits_now(device);
        if (limits == NULL) {
            return MICA_FORBIDDEN;
        }
        if (limits->control == MICA_CONTROL_KILL) {
            return MICA_KILLED;
        }
        if (limits->copy_bytes_per_s == 0) {
            return MICA_GRANTED;
        }
        uint64_t now_ns = mica_monotonic_ns();
        if (last_ns != 0) {
            atomic_fetch_add_explicit(&device->usage->throttled_ns, now_ns - last_ns, memory_order_relaxed);
            atomic_fetch_add_explicit(&device->usage->processes[device->slot].throttled_ns, now_ns - last_ns, memory_order_relaxed);
        }
        uint64_t wait_ns = mica_cell_admit(&device->usage->copy_time_ns, copy_ns(bytes, limits->copy_bytes_per_s), limits->burst_ns, now_ns);
        if (wait_ns == 0) {
            account(device, bytes);
            return MICA_GRANTED;
        }
        last_ns = now_ns;
        mica_nap(wait_ns);
    }
}
