/* SPDX-License-Identifier: Apache-2.0
 *
 * Which devices there are: the slice's, numbered from 0 in the order of the machine's own numbers.
 */
#include "library.h"

static nvmlReturn_t machine_count(unsigned int *count)
{
    return library.nvmlDeviceGetCount_v2 != NULL ? library.nvmlDeviceGetCount_v2(count) : below_nvmlDeviceGetCount(count);
}

static nvmlReturn_t machine_handle(unsigned int index, nvmlDevice_t *device)
{
    return library.nvmlDeviceGetHandleByIndex_v2 != NULL ? library.nvmlDeviceGetHandleByIndex_v2(index, device)
                                                         : below_nvmlDeviceGetHandleByIndex(index, device);
}

/* Go through the machine's devices; the slice's `wanted`-th is put into `*found`. `*seen` counts those of the slice up to there. */
static nvmlReturn_t walk(unsigned int wanted, nvmlDevice_t *found, unsigned int *seen)
{
    unsigned int count = 0;
    nvmlReturn_t result = machine_count(&count);
    *seen = 0;
    for (unsigned int index = 0; index < count && result == NVML_SUCCESS; index++) {
        nvmlDevice_t device;
        if (machine_handle(index, &device) != NVML_SUCCESS || handle_device(device) == NULL) {
            continue; /* a device that is lost, or another's */
        }
        if (*seen == wanted) {
            *found = device;
            return NVML_SUCCESS;
        }
        *seen += 1;
    }
    return result == NVML_SUCCESS ? NVML_ERROR_INVALID_ARGUMENT : result;
}

static nvmlReturn_t slice_count(unsigned int *count)
{
    nvmlDevice_t none;
    if (count == NULL) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    nvmlReturn_t result = walk(MICA_DEVICES_MAX, &none, count);
    return result == NVML_ERROR_INVALID_ARGUMENT ? NVML_SUCCESS : result;
}

static nvmlReturn_t slice_handle(unsigned int index, nvmlDevice_t *device)
{
    unsigned int seen;
    return device == NULL ? NVML_ERROR_INVALID_ARGUMENT : walk(index, device, &seen);
}

VIEW_HOOK(nvmlDeviceGetCount, (unsigned int *count), (count), slice_count(count))
VIEW_HOOK(nvmlDeviceGetCount_v2, (unsigned int *count), (count), slice_count(count))
VIEW_HOOK(nvmlDeviceGetHandleByIndex, (unsigned int index, nvmlDevice_t *device), (index, device), slice_handle(index, device))
VIEW_HOOK(nvmlDeviceGetHandleByIndex_v2, (unsigned int index, nvmlDevice_t *device), (index, device), slice_handle(index, device))

/* A handle that the library gave: kept if the device is the slice's, else as if there were no such device. */
static nvmlReturn_t keep_own(nvmlReturn_t result, const nvmlDevice_t *device)
{
    return result == NVML_SUCCESS && handle_device(*device) == NULL ? NVML_ERROR_NOT_FOUND : result;
}

#define KEEP_HOOK(name, params, args) VIEW_HOOK(name, params, args, keep_own(below_##name args, device))

KEEP_HOOK(nvmlDeviceGetHandleByPciBusId, (const char *bus_id, nvmlDevice_t *device), (bus_id, device))
KEEP_HOOK(nvmlDeviceGetHandleByPciBusId_v2, (const char *bus_id, nvmlDevice_t *device), (bus_id, device))
KEEP_HOOK(nvmlDeviceGetHandleByUUID, (const char *uuid, nvmlDevice_t *device), (uuid, device))
KEEP_HOOK(nvmlDeviceGetHandleByUUIDV, (const void *uuid, nvmlDevice_t *device), (uuid, device))
KEEP_HOOK(nvmlDeviceGetHandleBySerial, (const char *serial, nvmlDevice_t *device), (serial, device))

static nvmlReturn_t slice_index(nvmlDevice_t wanted, unsigned int *index)
{
    const struct mica_device *device = handle_device(wanted);
    if (device == NULL || index == NULL) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (unsigned int i = 0; i < MICA_DEVICES_MAX; i++) {
        nvmlDevice_t found;
        nvmlReturn_t result = slice_handle(i, &found);
        if (result != NVML_SUCCESS) {
            return result;
        }
        if (handle_device(found) == device) {
            *index = i;
            return NVML_SUCCESS;
        }
    }
    return NVML_ERROR_NOT_FOUND;
}

VIEW_HOOK(nvmlDeviceGetIndex, (nvmlDevice_t device, unsigned int *index), (device, index), slice_index(device, index))
