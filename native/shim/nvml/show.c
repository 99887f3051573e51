/* SPDX-License-Identifier: Apache-2.0
 *
 * What the devices hold: the slice's memory, and the slice's processes.
 */
#include "library.h"

#include "activity.h"

#include <errno.h>
#include <string.h>

#define PROCESSES_MAX 256

/* --- Memory ----------------------------------------------------------------------------------------------------------- */

/* The slice's memory limit on the device now; false when its record is gone. While the record changes, the last known one. */
static bool limit_bytes(const struct mica_device *device, uint64_t *bytes)
{
    struct mica_slice_limits limits;
    int index = mica_quota_find(device->quota, library_slice()->id_words, &limits);
    if (index < 0 && index != -EAGAIN) {
        return false;
    }
    *bytes = index < 0 ? device->limits.vram_limit_bytes : limits.vram_limit_bytes;
    return true;
}

static nvmlReturn_t slice_memory(nvmlDevice_t handle, nvmlMemory_t *memory)
{
    nvmlReturn_t result = below_nvmlDeviceGetMemoryInfo(handle, memory);
    if (result != NVML_SUCCESS) {
        return result;
    }
    const struct mica_device *device = handle_device(handle);
    uint64_t limit = 0;
    if (device == NULL || !limit_bytes(device, &limit)) {
        return NVML_ERROR_NO_PERMISSION;
    }
    uint64_t used = mica_charge_sum(device->usage, MICA_MEMORY_VRAM);
    uint64_t unused = used < limit ? limit - used : 0;
    memory->total = limit;
    memory->used = used;
    memory->free = unused < memory->free ? unused : memory->free;
    return NVML_SUCCESS;
}

/* The caller's version is checked by the library, and stays. */
static nvmlReturn_t slice_memory_v2(nvmlDevice_t handle, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t seen;
    nvmlReturn_t result = below_nvmlDeviceGetMemoryInfo_v2(handle, memory);
    if (result == NVML_SUCCESS) {
        result = slice_memory(handle, &seen);
    }
    if (result == NVML_SUCCESS) {
        memory->total = seen.total;
        memory->reserved = 0;
        memory->free = seen.free;
        memory->used = seen.used;
    }
    return result;
}

VIEW_HOOK(nvmlDeviceGetMemoryInfo, (nvmlDevice_t device, nvmlMemory_t *memory), (device, memory), slice_memory(device, memory))
VIEW_HOOK(nvmlDeviceGetMemoryInfo_v2, (nvmlDevice_t device, nvmlMemory_v2_t *memory), (device, memory), slice_memory_v2(device, memory))

/* What is mapped for the host is not counted by slice: none of it is shown, and no more than the slice has memory. */
static nvmlReturn_t slice_bar1(nvmlDevice_t handle, nvmlBAR1Memory_t *memory)
{
    nvmlReturn_t result = below_nvmlDeviceGetBAR1MemoryInfo(handle, memory);
    const struct mica_device *device = result == NVML_SUCCESS ? handle_device(handle) : NULL;
    uint64_t limit = 0;
    if (result != NVML_SUCCESS) {
        return result;
    }
    if (device == NULL || !limit_bytes(device, &limit)) {
        return NVML_ERROR_NO_PERMISSION;
    }
    memory->total = limit < memory->total ? limit : memory->total;
    memory->free = memory->total;
    memory->used = 0;
    return NVML_SUCCESS;
}

/* --- Activity ------------------------------------------------------------------------------------------------------------ */

/* How busy the slice keeps its share of the device. The device's memory is taken to be as busy for it as it is for everybody. */
static nvmlReturn_t slice_utilization(nvmlDevice_t handle, nvmlUtilization_t *utilization)
{
    nvmlReturn_t result = below_nvmlDeviceGetUtilizationRates(handle, utilization);
    struct mica_device *device = result == NVML_SUCCESS ? handle_device(handle) : NULL;
    struct mica_slice_limits limits;
    if (result != NVML_SUCCESS) {
        return result;
    }
    if (device == NULL || mica_quota_find(device->quota, library_slice()->id_words, &limits) < 0) {
        return NVML_ERROR_NO_PERMISSION;
    }
    unsigned int own = activity_percent(device, limits.share_ppm);
    utilization->memory = utilization->gpu != 0 ? utilization->memory * own / utilization->gpu : 0;
    utilization->memory = utilization->memory < 100 ? utilization->memory : 100;
    utilization->gpu = own;
    return NVML_SUCCESS;
}

VIEW_HOOK(nvmlDeviceGetBAR1MemoryInfo, (nvmlDevice_t device, nvmlBAR1Memory_t *memory), (device, memory), slice_bar1(device, memory))
VIEW_HOOK(nvmlDeviceGetUtilizationRates, (nvmlDevice_t device, nvmlUtilization_t *utilization), (device, utilization), slice_utilization(device, utilization))

/* --- Processes --------------------------------------------------------------------------------------------------------- */

typedef nvmlReturn_t (*list_call)(nvmlDevice_t device, unsigned int *count, void *processes);

static bool is_slice_process(const struct mica_device *device, unsigned int pid)
{
    for (unsigned i = 0; i < MICA_PROCESSES_MAX; i++) {
        uint64_t owner = atomic_load_explicit(&device->usage->processes[i].owner, memory_order_relaxed);
        if ((owner & MICA_OWNER_HELD) != 0 && (owner & ((1ULL << MICA_OWNER_PID_BITS) - 1)) == pid) {
            return true;
        }
    }
    return false;
}

/* Ask for everybody's processes, and hand on the slice's. Every version of an entry of `entry_bytes` begins with the pid. */
static nvmlReturn_t slice_processes(nvmlDevice_t handle, unsigned int *count, void *processes, size_t entry_bytes, list_call below)
{
    char all[PROCESSES_MAX * 24];
    unsigned int all_count = PROCESSES_MAX;
    const struct mica_device *device = handle_device(handle);
    if (count == NULL || device == NULL) {
        return NVML_ERROR_INVALID_ARGUMENT;
    }
    nvmlReturn_t result = below(handle, &all_count, all);
    if (result != NVML_SUCCESS) {
        return result;
    }
    unsigned int room = processes != NULL ? *count : 0;
    unsigned int own = 0;
    for (unsigned int i = 0; i < all_count; i++) {
        unsigned int pid;
        memcpy(&pid, all + i * entry_bytes, sizeof pid);
        if (!is_slice_process(device, pid)) {
            continue;
        }
        if (own < room) {
            memcpy((char *)processes + own * entry_bytes, all + i * entry_bytes, entry_bytes);
        }
        own++;
    }
    *count = own;
    return own > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* Entries of 16 bytes: pid, used memory. From version 2 on of 24: GPU instance and compute instance as well. */
#define LIST_HOOK(name, entry_bytes)                                                                                      \
    VIEW_HOOK(name, (nvmlDevice_t device, unsigned int *count, void *processes), (device, count, processes),              \
              slice_processes(device, count, processes, entry_bytes, below_##name))

LIST_HOOK(nvmlDeviceGetComputeRunningProcesses, 16)
LIST_HOOK(nvmlDeviceGetComputeRunningProcesses_v2, 24)
LIST_HOOK(nvmlDeviceGetComputeRunningProcesses_v3, 24)
LIST_HOOK(nvmlDeviceGetGraphicsRunningProcesses, 16)
LIST_HOOK(nvmlDeviceGetGraphicsRunningProcesses_v2, 24)
LIST_HOOK(nvmlDeviceGetGraphicsRunningProcesses_v3, 24)
LIST_HOOK(nvmlDeviceGetMPSComputeRunningProcesses, 16)
LIST_HOOK(nvmlDeviceGetMPSComputeRunningProcesses_v2, 24)
LIST_HOOK(nvmlDeviceGetMPSComputeRunningProcesses_v3, 24)
