/* SPDX-License-Identifier: Apache-2.0
 *
 * Enforcement of a slice's compute limits on one device: who may submit work, and when.
 */
#ifndef MICA_SHIM_LAUNCH_H
#define MICA_SHIM_LAUNCH_H

#include "limits.h"

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

#endif
