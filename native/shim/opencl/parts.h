/* SPDX-License-Identifier: Apache-2.0
 *
 * The slice's own part of a device: a sub-device (clCreateSubDevices), which the program sees in the device's place.
 *
 * Where the slice's record says so, the process makes one sub-device of the units between the slice's offset and its end, once and for its whole life. What
 * the driver can't give is left to the rate, and said once on stderr.
 */
#ifndef MICA_SHIM_OPENCL_PARTS_H
#define MICA_SHIM_OPENCL_PARTS_H

#include "layer.h"

/* The slice's part of `root`, to be shown instead of it; `root` itself where the slice has none. */
cl_device_id part_make(cl_device_id root, struct mica_device *device);

#endif
