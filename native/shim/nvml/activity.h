/* SPDX-License-Identifier: Apache-2.0
 *
 * How busy a slice has been lately, by the device time that its processes were charged.
 */
#ifndef MICA_SHIM_NVML_ACTIVITY_H
#define MICA_SHIM_NVML_ACTIVITY_H

#include "../core/slice.h"

/* Begin to watch the slice's devices. */
void activity_begin(const struct mica_slice *slice);

/* Device time of the slice over the last moments (100 ms at least, as far back as the last look), in percent of what its share of that time is; at most
 * 100, though a slice may be lent more. */
unsigned int activity_percent(const struct mica_device *device, uint64_t share_ppm);

#endif
