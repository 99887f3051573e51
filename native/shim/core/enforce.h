/* SPDX-License-Identifier: Apache-2.0
 *
 * Enforcement of a slice's limits on one device: memory and launches. Vendor shims call these and turn the verdict into
 * their driver's own error. Nothing here allocates, locks or logs.
 */
#ifndef MICA_SHIM_ENFORCE_H
#define MICA_SHIM_ENFORCE_H

#include "slice.h"

enum mica_verdict {
    MICA_GRANTED = 0,
    MICA_NO_MEMORY = 1, /* over the limit, or the slice is draining */
    MICA_FORBIDDEN = 2, /* the slice has no record any more */
    MICA_KILLED = 3     /* control word kill */
};

/* The newest limits of the slice on this device, or NULL when its record is gone. While the enforcer is in the middle of a change this is the
 * last good copy. Valid in this thread until its next call. */
const struct mica_slice_limits *mica_limits_now(struct mica_device *device);

enum mica_verdict mica_memory_charge(struct mica_device *device, uint64_t bytes);
void mica_memory_refund(struct mica_device *device, uint64_t bytes);
/* Bytes that the slice may still take on this device. */
uint64_t mica_memory_free(struct mica_device *device, const struct mica_slice_limits *limits);

/* What a launch that has to wait does meanwhile. */
struct mica_wait {
    uint64_t (*poll)(void *context); /* called on every wake; returns the newest estimate of the launch's cost */
    void *context;
    uint64_t *now_ns; /* set to the CLOCK_MONOTONIC of the admission */
};

/* Wait until the slice may launch work of `*cost_ns` on the device, and charge it. `*cost_ns` becomes what was charged. */
enum mica_verdict mica_launch_admit(struct mica_device *device, uint64_t *cost_ns, const struct mica_wait *wait);

/* After the fact: what was charged as `charged_ns` took `actual_ns`. */
void mica_launch_correct(struct mica_device *device, uint64_t charged_ns, uint64_t actual_ns);

/* Note that the process lives: at sampled calls, not at every one. */
void mica_device_touch(struct mica_device *device, uint64_t now_ns);

#endif
