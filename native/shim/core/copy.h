/* SPDX-License-Identifier: Apache-2.0
 *
 * Enforcement of a slice's copy bandwidth on one device.
 */
#ifndef MICA_SHIM_COPY_H
#define MICA_SHIM_COPY_H

#include "limits.h"

/* Whether copies are limited at all: one look at the slice's limits, for those who would otherwise find out more than they need. */
bool mica_copy_is_free(struct mica_device *device);
/* Wait until the slice may copy `bytes`, and charge them. A copy is paid for by those that come after it: a single one is never split. */
enum mica_verdict mica_copy_admit(struct mica_device *device, uint64_t bytes);

#endif
