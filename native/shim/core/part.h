/* SPDX-License-Identifier: Apache-2.0
 *
 * A part of the device that this process's work has to itself, by a mechanism of the driver's: what is common to all mechanisms.
 *
 * `part_ppm` of a device says how large it is. Whoever makes the part writes it.
 */
#ifndef MICA_SHIM_PART_H
#define MICA_SHIM_PART_H

#include "slice.h"

/* Which of a device's `count` units of one size are the slice's: those whose middle lies in its part, and at least one. Slices whose parts do not overlap in
 * the record do not overlap on the device either, as long as they have one unit each. Returns how many, and the first one. */
unsigned mica_part_units(const struct mica_slice_limits *limits, unsigned count, unsigned *first);

/* What work that took `elapsed_ns` in this process's part has cost of the whole device: the rate holds the slice to its share of that, whatever part
 * the process got when it started. */
uint64_t mica_part_device_ns(const struct mica_device *device, uint64_t elapsed_ns);

/* One line for the tenant's operator: the share is kept by the rate instead. */
void mica_part_missing(const struct mica_device *device, const char *what, int result);

#endif
