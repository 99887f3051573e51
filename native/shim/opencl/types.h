/* SPDX-License-Identifier: Apache-2.0
 *
 * As much of OpenCL's interface as the layer needs, in its own names (OpenCL 3.0 API specification; cl_layer.h).
 */
#ifndef MICA_SHIM_OPENCL_TYPES_H
#define MICA_SHIM_OPENCL_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef uint32_t cl_bool;
typedef uint64_t cl_bitfield;
typedef intptr_t cl_context_properties;
typedef uint64_t cl_properties;
typedef intptr_t cl_device_partition_property;

typedef struct _cl_platform_id *cl_platform_id;
typedef struct _cl_device_id *cl_device_id;
typedef struct _cl_context *cl_context;
typedef struct _cl_command_queue *cl_command_queue;
typedef struct _cl_mem *cl_mem;
typedef struct _cl_program *cl_program;
typedef struct _cl_kernel *cl_kernel;
typedef struct _cl_event *cl_event;

typedef struct {
    cl_uint order;
    cl_uint type;
} cl_image_format;

typedef struct {
    cl_uint type;
    size_t width, height, depth, array_size, row_pitch, slice_pitch;
    cl_uint mip_levels, samples;
    cl_mem from; /* another object's memory; NULL: its own */
} cl_image_desc;

enum {
    CL_SUCCESS = 0,
    CL_DEVICE_NOT_FOUND = -1,
    CL_MEM_OBJECT_ALLOCATION_FAILURE = -4,
    CL_OUT_OF_RESOURCES = -5,
    CL_OUT_OF_HOST_MEMORY = -6,
    CL_PROFILING_INFO_NOT_AVAILABLE = -7,
    CL_INVALID_VALUE = -30,
    CL_INVALID_DEVICE = -33,
    CL_INVALID_OPERATION = -59,
    CL_INVALID_BUFFER_SIZE = -61,
    CL_INVALID_DEVICE_PARTITION_COUNT = -68,
};

#define CL_COMPLETE 0

#define CL_LAYER_API_VERSION 0x4240
#define CL_LAYER_NAME 0x4241
#define CL_LAYER_API_VERSION_100 100

#define CL_PLATFORM_NAME 0x0902

#define CL_DEVICE_TYPE 0x1000
#define CL_DEVICE_TYPE_DEFAULT 1ULL
#define CL_DEVICE_TYPE_CPU (1ULL << 1)
#define CL_DEVICE_TYPE_ALL 0xFFFFFFFFULL
#define CL_DEVICE_MAX_COMPUTE_UNITS 0x1002
#define CL_DEVICE_MAX_MEM_ALLOC_SIZE 0x1010
#define CL_DEVICE_IMAGE_SUPPORT 0x1016
#define CL_DEVICE_GLOBAL_MEM_SIZE 0x101F
#define CL_DEVICE_NAME 0x102B
#define CL_DEVICE_PARENT_DEVICE 0x1042
#define CL_DEVICE_PARTITION_TYPE 0x1046
#define CL_DEVICE_REFERENCE_COUNT 0x1047
#define CL_DEVICE_UUID_KHR 0x106A
#define CL_UUID_SIZE_KHR 16
#define CL_DEVICE_GLOBAL_FREE_MEMORY_AMD 0x4039

#define CL_DEVICE_PARTITION_BY_COUNTS 0x1087
#define CL_DEVICE_PARTITION_BY_COUNTS_LIST_END 0

#define CL_CONTEXT_DEVICES 0x1081
#define CL_CONTEXT_PLATFORM 0x1084

#define CL_QUEUE_DEVICE 0x1091
#define CL_QUEUE_REFERENCE_COUNT 0x1092
#define CL_QUEUE_PROPERTIES 0x1093
#define CL_QUEUE_PROPERTIES_ARRAY 0x1098
#define CL_QUEUE_PROFILING_ENABLE (1ULL << 1)
#define CL_QUEUE_ON_DEVICE (1ULL << 2)

#define CL_MEM_OBJECT_IMAGE2D 0x10F1
#define CL_MEM_OBJECT_IMAGE3D 0x10F2
#define CL_MEM_OBJECT_IMAGE2D_ARRAY 0x10F3
#define CL_MEM_OBJECT_IMAGE1D_ARRAY 0x10F5
#define CL_MEM_SIZE 0x1102
#define CL_PROGRAM_DEVICES 0x1163
#define CL_KERNEL_FUNCTION_NAME 0x1190
#define CL_EVENT_COMMAND_QUEUE 0x11D0
#define CL_PROFILING_COMMAND_START 0x1282
#define CL_PROFILING_COMMAND_END 0x1283

#endif
