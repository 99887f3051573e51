/* SPDX-License-Identifier: Apache-2.0
 *
 * Simulated OpenCL platforms, as an installable driver of the OpenCL loader (cl_khr_icd). Which there are, and what is wrong with them, is in the file
 * that MICA_SIM_OPENCL names, a word and its value on each line:
 *
 *     platform Intel(R) OpenCL Graphics     a platform begins; its name is told with "mica simulated " in front
 *     vendor Intel(R) Corporation
 *     fail clGetDeviceIDs                   or clGetDeviceInfo: it answers with CL_OUT_OF_HOST_MEMORY; or crash: the process dies in clGetDeviceIDs
 *     device Intel(R) Arc(TM) A770          a device of the platform begins
 *     type gpu                              or cpu, accelerator, custom
 *     vendor_id 0x8086
 *     memory 17179869184
 *     units 512
 *     uuid 868680a0560800000300000000000000 without it and without pci: the driver has no such extension
 *     pci 0000:03:00.0
 *
 * Buffers are host memory, and commands on them are over when they have been enqueued. Kernels there are none.
 */
#ifndef MICA_SIM_OPENCL_PLATFORM_H
#define MICA_SIM_OPENCL_PLATFORM_H

#include "../../shim/opencl/hooks.h"

#include <stdbool.h>

#define EXPORT __attribute__((visibility("default")))
#define SIM_TEXT 128
#define SIM_DEVICES 8
#define SIM_PLATFORMS 4

/* Every object of a driver begins with its table, by which the loader finds the driver. */
struct sim_table;

struct _cl_device_id {
    const struct sim_table *table;
    cl_platform_id platform;
    char name[SIM_TEXT];
    cl_bitfield type;
    cl_uint vendor_id;
    cl_ulong memory;
    cl_uint units;
    bool has_uuid;
    unsigned char uuid[CL_UUID_SIZE_KHR];
    bool has_pci;
    cl_uint pci[4]; /* domain, bus, device, function */
};

struct _cl_platform_id {
    const struct sim_table *table;
    char name[SIM_TEXT];
    char vendor[SIM_TEXT];
    char fails[SIM_TEXT];
    cl_uint count;
    struct _cl_device_id devices[SIM_DEVICES];
};

/* The platforms of the description, read once. Returns how many. */
cl_uint sim_platforms(struct _cl_platform_id **platforms);

extern const struct sim_table sim_table;

/* Answer a question of the kind "which value, how large". */
cl_int sim_answer(const void *answer, size_t size, size_t room, void *value, size_t *bytes);

#endif
