/* SPDX-License-Identifier: Apache-2.0 */
#include "platform.h"

#include "objects.h"

#include <stdlib.h>
#include <string.h>

#define VERSION "OpenCL 1.2 mica"
#define EXTENSIONS "cl_khr_icd"
#define SUFFIX "MICA"

enum {
    PLATFORM_PROFILE = 0x0900,
    PLATFORM_VERSION = 0x0901,
    PLATFORM_VENDOR = 0x0903,
    PLATFORM_EXTENSIONS = 0x0904,
    PLATFORM_SUFFIX = 0x0920,
    DEVICE_VENDOR_ID = 0x1001,
    DEVICE_UNITS = 0x1002,
    DEVICE_MEM_BASE_ADDR_ALIGN = 0x1019,
    DEVICE_AVAILABLE = 0x1027,
    DEVICE_QUEUE_PROPERTIES = 0x102A,
    DEVICE_VENDOR = 0x102C,
    DRIVER_VERSION = 0x102D,
    DEVICE_PROFILE = 0x102E,
    DEVICE_VERSION = 0x102F,
    DEVICE_EXTENSIONS = 0x1030,
    DEVICE_PLATFORM = 0x1031,
    DEVICE_PCI_BUS_INFO = 0x410F,
};

cl_int sim_answer(const void *answer, size_t size, size_t room, void *value, size_t *bytes)
{
    if (value != NULL && room < size) {
        return CL_INVALID_VALUE;
    }
    if (value != NULL) {
        memcpy(value, answer, size);
    }
    if (bytes != NULL) {
        *bytes = size;
    }
    return CL_SUCCESS;
}

static cl_int say(const char *text, size_t room, void *value, size_t *bytes)
{
    return sim_answer(text, strlen(text) + 1, room, value, bytes);
}

static cl_int sim_clGetPlatformIDs(cl_uint room, cl_platform_id *platforms, cl_uint *count)
{
    struct _cl_platform_id *all;
    cl_uint found = sim_platforms(&all);
    for (cl_uint i = 0; platforms != NULL && i < found && i < room; i++) {
        platforms[i] = &all[i];
    }
    if (count != NULL) {
        *count = found;
    }
    return CL_SUCCESS;
}

static cl_int sim_clGetPlatformInfo(cl_platform_id platform, cl_uint what, size_t room, void *value, size_t *bytes)
{
    switch (what) {
    case PLATFORM_PROFILE:
        return say("FULL_PROFILE", room, value, bytes);
    case PLATFORM_VERSION:
        return say(VERSION, room, value, bytes);
    case CL_PLATFORM_NAME:
        return say(platform->name, room, value, bytes);
    case PLATFORM_VENDOR:
        return say(platform->vendor, room, value, bytes);
    case PLATFORM_EXTENSIONS:
        return say(EXTENSIONS, room, value, bytes);
    case PLATFORM_SUFFIX:
        return say(SUFFIX, room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

static cl_int sim_clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint room, cl_device_id *devices, cl_uint *count)
{
    cl_uint found = 0;
    if (strcmp(platform->fails, "crash") == 0) {
        abort();
    }
    if (strcmp(platform->fails, "clGetDeviceIDs") == 0) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    for (cl_uint i = 0; i < platform->count; i++) {
        bool is_default = type == CL_DEVICE_TYPE_DEFAULT && i == 0;
        if (is_default || (platform->devices[i].type & type) != 0) {
            if (devices != NULL && found < room) {
                devices[found] = &platform->devices[i];
            }
            found++;
        }
    }
    if (count != NULL) {
        *count = found;
    }
    return found > 0 ? CL_SUCCESS : CL_DEVICE_NOT_FOUND;
}

static cl_int say_of(cl_device_id device, cl_uint what, size_t room, void *value, size_t *bytes)
{
    switch (what) {
    case CL_DEVICE_NAME:
        return say(device->name, room, value, bytes);
    case DEVICE_VENDOR:
        return say(device->platform->vendor, room, value, bytes);
    case DRIVER_VERSION:
        return say("mica", room, value, bytes);
    case DEVICE_PROFILE:
        return say("FULL_PROFILE", room, value, bytes);
    case DEVICE_VERSION:
        return say(VERSION, room, value, bytes);
    case DEVICE_EXTENSIONS:
        return say(device->has_uuid ? "cl_khr_device_uuid" : "", room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

static cl_int sim_clGetDeviceInfo(cl_device_id device, cl_uint what, size_t room, void *value, size_t *bytes)
{
    static const cl_uint yes = 1;
    static const cl_uint alignment = 1024;
    static const cl_bitfield properties = CL_QUEUE_PROFILING_ENABLE;
    static const cl_device_id none;
    if (strcmp(device->platform->fails, "clGetDeviceInfo") == 0) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    switch (what) {
    case CL_DEVICE_TYPE:
        return sim_answer(&device->type, sizeof device->type, room, value, bytes);
    case DEVICE_VENDOR_ID:
        return sim_answer(&device->vendor_id, sizeof device->vendor_id, room, value, bytes);
    case DEVICE_UNITS:
        return sim_answer(&device->units, sizeof device->units, room, value, bytes);
    case DEVICE_MEM_BASE_ADDR_ALIGN:
        return sim_answer(&alignment, sizeof alignment, room, value, bytes);
    case DEVICE_AVAILABLE:
        return sim_answer(&yes, sizeof yes, room, value, bytes);
    case DEVICE_QUEUE_PROPERTIES:
        return sim_answer(&properties, sizeof properties, room, value, bytes);
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
    case CL_DEVICE_GLOBAL_MEM_SIZE:
        return sim_answer(&device->memory, sizeof device->memory, room, value, bytes);
    case DEVICE_PLATFORM:
        return sim_answer(&device->platform, sizeof device->platform, room, value, bytes);
    case CL_DEVICE_PARENT_DEVICE:
        return sim_answer(&none, sizeof none, room, value, bytes);
    case CL_DEVICE_UUID_KHR:
        return device->has_uuid ? sim_answer(device->uuid, sizeof device->uuid, room, value, bytes) : CL_INVALID_VALUE;
    case DEVICE_PCI_BUS_INFO:
        return device->has_pci ? sim_answer(device->pci, sizeof device->pci, room, value, bytes) : CL_INVALID_VALUE;
    default:
        return say_of(device, what, room, value, bytes);
    }
}

/* --- What the loader takes ---------------------------------------------------------------------------------------------- */

struct sim_table {
#define ENTRY(name) void (*name)(void);
#include "../../shim/opencl/dispatch.def"
#undef ENTRY
};

#define OWN(name) .name = (void (*)(void))sim_##name,
const struct sim_table sim_table = {OWN(clGetPlatformIDs) OWN(clGetPlatformInfo) OWN(clGetDeviceIDs) OWN(clGetDeviceInfo) SIM_OBJECT_CALLS(OWN)};

EXPORT cl_int clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *platforms, cl_uint *count);
EXPORT cl_int clGetPlatformInfo(cl_platform_id platform, cl_uint what, size_t room, void *value, size_t *bytes);
EXPORT void *clGetExtensionFunctionAddress(const char *name);

cl_int clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id *platforms, cl_uint *count)
{
    return sim_clGetPlatformIDs(room, platforms, count);
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_uint what, size_t room, void *value, size_t *bytes)
{
    return sim_clGetPlatformInfo(platform, what, room, value, bytes);
}

void *clGetExtensionFunctionAddress(const char *name)
{
    cl_int (*platforms)(cl_uint, cl_platform_id *, cl_uint *) = clIcdGetPlatformIDsKHR;
    void *address = NULL;
    if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0) {
        memcpy(&address, &platforms, sizeof address);
    }
    return address;
}
