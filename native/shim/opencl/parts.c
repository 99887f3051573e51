/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that computes in a part holds a sub-device and believes that it is a device. So whatever the driver says of the device behind it, or is told by
 * its name, is about the part: some drivers list the whole device as that of a context or a program, where it was made of a part (PoCL).
 */
#define _GNU_SOURCE
#include "parts.h"

#include "../core/part.h"
#include "devices.h"

#define DEVICES_MAX 64

static bool lacks_images[MICA_DEVICES_MAX]; /* written with the list of devices */

static bool is_lost_in_contexts(cl_device_id part)
{
    cl_device_id listed = NULL;
    cl_context context = below.clCreateContext(NULL, 1, &part, NULL, NULL, NULL);
    if (context == NULL) {
        return true;
    }
    (void)below.clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof listed, &listed, NULL);
    (void)below.clReleaseContext(context);
    return listed != part;
}

bool part_lacks_images(const struct mica_device *device)
{
    return lacks_images[device_index(device)];
}

bool part_has_images(cl_context context)
{
    cl_device_id devices[DEVICES_MAX];
    size_t bytes = 0;
    if (door() != DOOR_ENFORCE || below.clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof devices, devices, &bytes) != CL_SUCCESS) {
        return true;
    }
    for (size_t i = 0; i < bytes / sizeof devices[0]; i++) {
        const struct mica_device *device = device_of(devices[i]);
        if (device != NULL && part_lacks_images(device)) {
            return false;
        }
    }
    return true;
}

cl_device_id part_make(cl_device_id root, struct mica_device *device)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    cl_device_id made[2] = {NULL, NULL};
    cl_uint units = 0;
    unsigned first = 0;
    atomic_store_explicit(&device->part_ppm, 0, memory_order_relaxed);
    lacks_images[device_index(device)] = false;
    if (limits == NULL || limits->spatial_kind != MICA_SPATIAL_SUBDEVICE || limits->spatial_ppm == 0 ||
        below.clGetDeviceInfo(root, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL) != CL_SUCCESS || units == 0) {
        return root;
    }
    unsigned count = mica_part_units(limits, units, &first);
    bool is_all = count == units;
    unsigned last = first > 0 ? 1 : 0;
    cl_device_partition_property wanted[] = {CL_DEVICE_PARTITION_BY_COUNTS, first, count, CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0};
    cl_device_partition_property at_begin[] = {CL_DEVICE_PARTITION_BY_COUNTS, count, CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0};
    cl_int result = is_all ? CL_SUCCESS : CL_INVALID_DEVICE_PARTITION_COUNT;
    if (!is_all && below.clCreateSubDevices != NULL) {
        result = below.clCreateSubDevices(root, last > 0 ? wanted : at_begin, last + 1, made, NULL);
    }
    if (result != CL_SUCCESS) {
        mica_part_missing(device, "clCreateSubDevices", result);
        return root;
    }
    if (last > 0) {
        (void)below.clReleaseDevice(made[0]); /* the units before the slice's */
    }
    atomic_store_explicit(&device->part_ppm, count * MICA_PPM / units, memory_order_relaxed);
    lacks_images[device_index(device)] = !is_all && is_lost_in_contexts(made[last]);
    return is_all ? root : made[last];
}

/* --- Hooks -------------------------------------------------------------------------------------------------------------- */

static void show(cl_device_id *devices, size_t room, size_t bytes)
{
    for (size_t i = 0; devices != NULL && i < (bytes < room ? bytes : room) / sizeof *devices; i++) {
        devices[i] = device_shown(devices[i]);
    }
}

cl_int hook_clGetContextInfo(cl_context context, cl_uint what, size_t room, void *value, size_t *bytes)
{
    size_t given = 0;
    cl_int result = below.clGetContextInfo(context, what, room, value, &given);
    if (result == CL_SUCCESS && what == CL_CONTEXT_DEVICES && door() == DOOR_ENFORCE) {
        show(value, room, given);
    }
    if (bytes != NULL) {
        *bytes = given;
    }
    return result;
}

cl_int hook_clGetProgramInfo(cl_program program, cl_uint what, size_t room, void *value, size_t *bytes)
{
    size_t given = 0;
    cl_int result = below.clGetProgramInfo(program, what, room, value, &given);
    if (result == CL_SUCCESS && what == CL_PROGRAM_DEVICES && door() == DOOR_ENFORCE) {
        show(value, room, given);
    }
    if (bytes != NULL) {
        *bytes = given;
    }
    return result;
}

cl_int hook_clGetSupportedImageFormats(cl_context context, cl_bitfield flags, cl_uint type, cl_uint room, cl_image_format *formats, cl_uint *count)
{
    if (part_has_images(context)) {
        return below.clGetSupportedImageFormats(context, flags, type, room, formats, count);
    }
    if (count != NULL) {
        *count = 0;
    }
    return CL_SUCCESS;
}

/* A device that is no part of another is not counted: the program's releases must not end its own device. */
cl_int hook_clRetainDevice(cl_device_id device)
{
    return door() == DOOR_ENFORCE && device_is_shown(device) ? CL_SUCCESS : below.clRetainDevice(device);
}

cl_int hook_clReleaseDevice(cl_device_id device)
{
    return door() == DOOR_ENFORCE && device_is_shown(device) ? CL_SUCCESS : below.clReleaseDevice(device);
}

cl_int hook_clCreateSubDevices(cl_device_id device, const cl_device_partition_property *properties, cl_uint room, cl_device_id *devices, cl_uint *count)
{
    return below.clCreateSubDevices(door() == DOOR_ENFORCE ? device_shown(device) : device, properties, room, devices, count);
}
