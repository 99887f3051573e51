/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of the platforms' devices are the slice's, and how they show themselves: as the slice, and no others.
 *
 * A device is known by its UUID where it has one (cl_khr_device_uuid). Any other has the id that discovery gives it, from what a program can see of it and
 * from the node's name, which is in MICA_NODE.
 */
#ifndef MICA_SHIM_OPENCL_DEVICES_H
#define MICA_SHIM_OPENCL_DEVICES_H

#include "layer.h"

/* The slice's device behind a device or a part of one; NULL: it is none of the slice's. */
struct mica_device *device_of(cl_device_id id);

/* What programs see in the place of a device that is asked for or answered: the slice's part of it, if it has one. */
cl_device_id device_shown(cl_device_id id);
/* Whether a program takes this for a whole device. */
bool device_is_shown(cl_device_id id);

/* The number of a device among the slice's. */
unsigned device_index(const struct mica_device *device);

/* Whether the device runs work of several programs at the same time: a processor, which does as the machine's scheduler says. */
bool device_overlaps(const struct mica_device *device);

/* In a forked child. */
void devices_forget(void);

#endif
