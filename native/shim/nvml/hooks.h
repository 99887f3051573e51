/* SPDX-License-Identifier: Apache-2.0
 *
 * Every NVML call that shows the slice in place of the machine, in one table:
 *
 *     X(return type, name, parameters, arguments, class)
 *
 * class: OPEN    finds the slice; fails closed
 *        SELECT  knows the slice's devices only
 *        SHOW    shows the slice's memory and activity
 *        FILTER  lists the slice's processes only
 */
#ifndef MICA_SHIM_NVML_HOOKS_H
#define MICA_SHIM_NVML_HOOKS_H

/* clang-format off */
#define NVML_HOOKS(X) \
    X(nvmlReturn_t, nvmlInit, (void), (), OPEN) \
    X(nvmlReturn_t, nvmlInit_v2, (void), (), OPEN) \
    X(nvmlReturn_t, nvmlInitWithFlags, (unsigned int flags), (flags), OPEN) \
    X(nvmlReturn_t, nvmlDeviceGetCount, (unsigned int *count), (count), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByIndex, (unsigned int index, nvmlDevice_t *device), (index, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByPciBusId, (const char *bus_id, nvmlDevice_t *device), (bus_id, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetCount_v2, (unsigned int *count), (count), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByIndex_v2, (unsigned int index, nvmlDevice_t *device), (index, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByPciBusId_v2, (const char *bus_id, nvmlDevice_t *device), (bus_id, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByUUID, (const char *uuid, nvmlDevice_t *device), (uuid, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleByUUIDV, (const void *uuid, nvmlDevice_t *device), (uuid, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetHandleBySerial, (const char *serial, nvmlDevice_t *device), (serial, device), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetIndex, (nvmlDevice_t device, unsigned int *index), (device, index), SELECT) \
    X(nvmlReturn_t, nvmlDeviceGetMemoryInfo, (nvmlDevice_t device, nvmlMemory_t *memory), (device, memory), SHOW) \
    X(nvmlReturn_t, nvmlDeviceGetBAR1MemoryInfo, (nvmlDevice_t device, nvmlBAR1Memory_t *memory), (device, memory), SHOW) \
    X(nvmlReturn_t, nvmlDeviceGetUtilizationRates, (nvmlDevice_t device, nvmlUtilization_t *utilization), (device, utilization), SHOW) \
    X(nvmlReturn_t, nvmlDeviceGetMemoryInfo_v2, (nvmlDevice_t device, nvmlMemory_v2_t *memory), (device, memory), SHOW) \
    X(nvmlReturn_t, nvmlDeviceGetComputeRunningProcesses, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetComputeRunningProcesses_v2, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetComputeRunningProcesses_v3, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetGraphicsRunningProcesses, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetGraphicsRunningProcesses_v2, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetGraphicsRunningProcesses_v3, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetMPSComputeRunningProcesses, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetMPSComputeRunningProcesses_v2, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER) \
    X(nvmlReturn_t, nvmlDeviceGetMPSComputeRunningProcesses_v3, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes), FILTER)

/* What the shim itself asks: Y(return type, name, parameters). */
#define NVML_CALLS(Y) \
    Y(nvmlReturn_t, nvmlDeviceGetUUID, (nvmlDevice_t device, char *uuid, unsigned int length))
/* clang-format on */

#endif
