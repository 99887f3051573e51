/* SPDX-License-Identifier: Apache-2.0
 *
 * What the vendor's management library (NVML) counts for this process on a device.
 *
 * The library lists processes by pid, and says which only in its own words: in a container the pids may be those of the machine, where this process has
 * another number, and this process's number is somebody else's. So a process finds itself in the list by when it came: its first context puts it there.
 */
#ifndef MICA_SHIM_CUDA_OWN_USAGE_H
#define MICA_SHIM_CUDA_OWN_USAGE_H

#include "../core/slice.h"

/* Before a context of this process is made on `device`, where it has none: what it is counted for all the same, mostly nothing. Who else is listed now is
 * somebody else. False: there is no list. */
bool own_usage_before_context(const struct mica_device *device, uint64_t *bytes);
/* That context was not made. */
void own_usage_forget_others(void);

/* The bytes counted for this process, which has a context on `device`. False: there is no list, or it is not known which entry is this process's. */
bool own_usage_read(const struct mica_device *device, uint64_t *bytes);

/* In a forked child. */
void own_usage_forget(void);

#endif
