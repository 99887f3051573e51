/* SPDX-License-Identifier: Apache-2.0
 *
 * NVML's binary interface, as far as the simulated library answers it: declared by hand.
 */
#ifndef MICA_SIM_NVML_ABI_H
#define MICA_SIM_NVML_ABI_H

#include <stdint.h>

#define NVML_RESULTS(X)                                                                                                                    \
    X(SUCCESS, 0, "Success")                                                                                                               \
    X(ERROR_UNINITIALIZED, 1, "Uninitialized")                                                                                             \
    X(ERROR_INVALID_ARGUMENT, 2, "Invalid Argument")                                                                                       \
    X(ERROR_NOT_SUPPORTED, 3, "Not Supported")                                                                                             \
    X(ERROR_NO_PERMISSION, 4, "Insufficient Permissions")                                                                                  \
    X(ERROR_NOT_FOUND, 6, "Not Found")                                                                                                     \
    X(ERROR_INSUFFICIENT_SIZE, 7, "Insufficient Size")                                                                                     \
    X(ERROR_DRIVER_NOT_LOADED, 9, "Driver Not Loaded")                                                                                     \
    X(ERROR_TIMEOUT, 10, "Timeout")                                                                                                        \
    X(ERROR_FUNCTION_NOT_FOUND, 13, "Function Not Found")                                                                                  \
    X(ERROR_GPU_IS_LOST, 15, "GPU is lost")                                                                                                 \
    X(ERROR_RESET_REQUIRED, 16, "GPU requires reset")                                                                                        \
    X(ERROR_IN_USE, 19, "In use by another client")                                                                                        \
    X(ERROR_MEMORY, 20, "Insufficient Memory")                                                                                             \
    X(ERROR_INSUFFICIENT_RESOURCES, 23, "Insufficient Resources")                                                                          \
    X(ERROR_ARGUMENT_VERSION_MISMATCH, 25, "Argument version mismatch")                                                                    \
    X(ERROR_INVALID_STATE, 29, "Invalid state for the operation")                                                                          \
    X(ERROR_UNKNOWN, 999, "Unknown Error")

#define NVML_RESULT_VALUE(name, number, text) NVML_##name = number,
typedef enum { NVML_RESULTS(NVML_RESULT_VALUE) } nvmlReturn_t;

typedef struct nvml_handle *nvmlDevice_t;
typedef struct nvml_handle *nvmlGpuInstance_t;
typedef struct nvml_handle *nvmlComputeInstance_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} nvmlMemory_v2_t;
#define NVML_MEMORY_V2 (sizeof(nvmlMemory_v2_t) | 2u << 24)

typedef struct {
    unsigned pid;
    unsigned long long used;
} nvmlProcessInfo_v1_t;

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} nvmlProcessInfo_v2_t;

typedef struct {
    unsigned gpu, memory;
} nvmlUtilization_t;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} nvmlPciInfo_t;

typedef struct nvml_event_set *nvmlEventSet_t;

typedef struct {
    nvmlDevice_t device;
    unsigned long long type, data; /* an Xid's number */
    unsigned gpu_instance, compute_instance;
} nvmlEventData_t;

typedef struct {
    unsigned start, size;
} nvmlPlacement_t;

/* The facts of a profile, as both versions of its struct have them. */
typedef struct {
    unsigned id, p2p, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
} nvmlGpuInstanceProfileInfo_t;

typedef struct {
    unsigned version;
    unsigned id, p2p, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
    char name[96];
} nvmlGpuInstanceProfileInfo_v2_t;
#define NVML_GPU_INSTANCE_PROFILE_INFO_V2 (sizeof(nvmlGpuInstanceProfileInfo_v2_t) | 2u << 24)

typedef struct {
    nvmlDevice_t device;
    unsigned id, profile_id;
    nvmlPlacement_t placement;
} nvmlGpuInstanceInfo_t;

typedef struct {
    unsigned id, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
} nvmlComputeInstanceProfileInfo_t;

typedef struct {
    unsigned version;
    nvmlComputeInstanceProfileInfo_t info;
    char name[96];
} nvmlComputeInstanceProfileInfo_v2_t;
#define NVML_COMPUTE_INSTANCE_PROFILE_INFO_V2 (sizeof(nvmlComputeInstanceProfileInfo_v2_t) | 2u << 24)

typedef struct {
    nvmlDevice_t device;
    nvmlGpuInstance_t instance;
    unsigned id, profile_id;
    nvmlPlacement_t placement;
} nvmlComputeInstanceInfo_t;

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} nvmlDeviceAttributes_t;

#endif
