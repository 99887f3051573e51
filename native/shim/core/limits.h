/* SPDX-License-Identifier: Apache-2.0
 *
 * What the slice may do on a device now, and the answers of those who enforce it. Vendor shims turn a verdict into their driver's own error. Nothing here
 * allocates, locks or logs.
 */
#ifndef MICA_SHIM_LIMITS_H
#define MICA_SHIM_LIMITS_H

#include "slice.h"

enum mica_verdict {
    MICA_GRANTED = 0,
    MICA_NO_MEMORY = 1, /* over the limit, or the slice is draining */
    MICA_FORBIDDEN = 2, /* the slice has no record any more */
    MICA_KILLED = 3     /* control word kill */
};

/* The newest limits of the slice on this device, or NULL when its record is gone and the policy for that is to refuse (see fault.h). While the enforcer is in
 * the middle of a change this is the last good copy. Valid in this thread until its next call. */
const struct mica_slice_limits *mica_limits_now(struct mica_device *device);

/* Note that the process lives: at sampled calls, not at every one. */
void mica_device_touch(struct mica_device *device, uint64_t now_ns);

#endif
