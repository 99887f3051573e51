/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "launch.h"

#include <time.h>

/* The longest nap of a launch that has to wait. A new limit, share or control word takes effect within one nap. */
#define NAP_MAX_NS 1000000ULL
/* The shortest: below it the kernel's own timer slack (50 us) decides. */
#define NAP_MIN_NS 20000ULL

static void nap(uint64_t wait_ns)
{
    uint64_t ns = wait_ns > NAP_MAX_NS ? NAP_MAX_NS : wait_ns < NAP_MIN_NS ? NAP_MIN_NS : wait_ns;
    struct timespec time = {.tv_sec = 0, .tv_nsec = (long)ns};
    (void)nanosleep(&time, NULL); /* a signal ends the nap early, which only means to look again sooner */
}

/* Control word throttle: no borrowing, the guaranteed share only. */
static uint64_t admit_throttled(struct mica_device *device, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns)
{
    struct mica_slice_limits floor = *limits;
    floor.ceiling_ppm = floor.share_ppm;
    return mica_rate_admit(device->usage, &floor, cost_ns, now_ns);
}

/* Charge the launch and return 0, or charge nothing and return how long to wait before asking again. */
static uint64_t try_admit(struct mica_device *device, const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns)
{
    if (limits->control == MICA_CONTROL_PAUSE) {
        return NAP_MAX_NS;
    }
    if (limits->window_period_ns != 0) {
        uint64_t wait_ns = mica_window_wait(limits, cost_ns, now_ns);
        if (wait_ns != 0) {
            return wait_ns;
        }
    }
    if (limits->control == MICA_CONTROL_THROTTLE) {
        return admit_throttled(device, limits, cost_ns, now_ns);
    }
    return mica_rate_admit(device->usage, limits, cost_ns, now_ns);
}

static void account_launch(struct mica_device *device, uint64_t cost_ns)
{
    struct mica_process_slot *slot = &device->usage->processes[device->slot];
    atomic_fetch_add_explicit(&slot->launches, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&slot->gpu_ns, cost_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->usage->launches, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->usage->gpu_ns, cost_ns, memory_order_relaxed);
}

enum mica_verdict mica_launch_admit(struct mica_device *device, uint64_t *cost_ns, const struct mica_wait *wait)
{
    for (uint64_t last_ns = 0;;) {
        const struct mica_slice_limits *limits = mica_limits_now(device);
        if (limits == NULL) {
            return MICA_FORBIDDEN;
        }
        if (limits->control == MICA_CONTROL_KILL) {
            return MICA_KILLED;
        }
        uint64_t now_ns = mica_monotonic_ns();
        if (last_ns != 0) {
            atomic_fetch_add_explicit(&device->usage->throttled_ns, now_ns - last_ns, memory_order_relaxed);
        }
        uint64_t wait_ns = try_admit(device, limits, *cost_ns, now_ns);
        if (wait_ns == 0) {
            account_launch(device, *cost_ns);
            *wait->now_ns = now_ns;
            return MICA_GRANTED;
        }
        last_ns = now_ns;
        nap(wait_ns);
        *cost_ns = wait->poll(wait->context);
    }
}

void mica_launch_correct(struct mica_device *device, uint64_t charged_ns, uint64_t actual_ns)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    if (limits == NULL || charged_ns == actual_ns) {
        return;
    }
    mica_rate_correct(device->usage, limits, charged_ns, actual_ns);
    /* What was charged is in the sums already, and the correction has added the whole of what it really was. */
    atomic_fetch_sub_explicit(&device->usage->gpu_ns, charged_ns, memory_order_relaxed);
    /* Unsigned wrap-around makes a subtraction of this where the work was shorter than charged. */
    struct mica_process_slot *slot = &device->usage->processes[device->slot];
    atomic_fetch_add_explicit(&slot->gpu_ns, actual_ns - charged_ns, memory_order_relaxed);
}
