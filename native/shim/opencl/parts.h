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

/* Whether programs can't use images in a part: some drivers can't find the part among its context's devices, and crash in any command on an image. */
bool part_lacks_images(const struct mica_device *device);
/* Whether all devices of a context have images, as far as that is the layer's to say. */
bool part_has_images(cl_context context);

#endif
