/* SPDX-License-Identifier: Apache-2.0
 *
 * Enforcement of a slice's memory limits on one device: device memory, and pinned host memory.
 */
#ifndef MICA_SHIM_MEMORY_H
#define MICA_SHIM_MEMORY_H

#include "limits.h"

enum mica_verdict mica_memory_charge(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes);
/* May the slice take memory at all: for what is charged already. */
enum mica_verdict mica_memory_permit(struct mica_device *device);
/* A refusal was not the last word: what stood in the way is gone, and it has been granted. */
void mica_memory_uncount_refusal(struct mica_device *device);
void mica_memory_refund(struct mica_device *device, enum mica_memory_kind kind, uint64_t bytes);
/* Bytes of device memory that the slice may still take on this device. */
uint64_t mica_memory_free(struct mica_device *device, const struct mica_slice_limits *limits);

#endif
