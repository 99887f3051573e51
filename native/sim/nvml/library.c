/* SPDX-License-Identifier: Apache-2.0
 *
 * The library as a whole: initialisation, versions, errors, handles.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nvml.h"
#include "refused.h"

#define SPREAD (SIM_INSTANCES_MAX * SIM_COMPUTE_MAX)

static atomic_int users;
static struct nvml_handle devices[SIM_DEVICES_MAX];
static struct nvml_handle migs[SIM_DEVICES_MAX * SPREAD];
static struct nvml_handle instances[SIM_DEVICES_MAX * SIM_INSTANCES_MAX];
static struct nvml_handle computes[SIM_DEVICES_MAX * SPREAD];

nvmlDevice_t nvml_device_handle(int device)
{
    devices[device] = (struct nvml_handle){HANDLE_DEVICE, (unsigned char)device, 0, 0};
    return &devices[device];
}

static struct nvml_handle *spread(struct nvml_handle *table, enum nvml_kind kind, int device, int instance, int compute)
{
    struct nvml_handle *handle = &table[(device * SIM_INSTANCES_MAX + instance) * SIM_COMPUTE_MAX + compute];
    *handle = (struct nvml_handle){kind, (unsigned char)device, (unsigned char)instance, (unsigned char)compute};
    return handle;
}

nvmlDevice_t nvml_mig_handle(int device, int instance, int compute)
{
    return spread(migs, HANDLE_MIG, device, instance, compute);
}

nvmlComputeInstance_t nvml_compute_handle(int device, int instance, int compute)
{
    return spread(computes, HANDLE_COMPUTE_INSTANCE, device, instance, compute);
}

nvmlGpuInstance_t nvml_instance_handle(int device, int instance)
{
    struct nvml_handle *handle = &instances[device * SIM_INSTANCES_MAX + instance];
    *handle = (struct nvml_handle){HANDLE_GPU_INSTANCE, (unsigned char)device, (unsigned char)instance, 0};
    return handle;
}

static bool within(const struct nvml_handle *handle, const struct nvml_handle *table, size_t bytes)
{
    uintptr_t offset = (uintptr_t)handle - (uintptr_t)table;
    return (uintptr_t)handle >= (uintptr_t)table && offset < bytes && offset % sizeof *table == 0;
}

static bool known(const struct nvml_handle *handle)
{
    return within(handle, devices, sizeof devices) || within(handle, migs, sizeof migs) || within(handle, instances, sizeof instances) ||
           within(handle, computes, sizeof computes);
}

nvmlReturn_t nvml_initialized(void)
{
    return users > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvml_leave(struct nvml_view *view, nvmlReturn_t result)
{
    sim_leave(view->state);
    return result;
}

nvmlReturn_t nvml_enter(struct nvml_handle *handle, unsigned kinds, struct nvml_view *view)
{
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (!known(handle) || !(kinds & 1u << handle->kind) || handle->device >= sim_node()->nvidia_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sim_device_reach(handle->device))
        return NVML_ERROR_GPU_IS_LOST;
    *view = (struct nvml_view){.index = handle->device, .instance_index = -1, .compute_index = -1};
    view->state = sim_enter();
    view->description = &view->state->node.devices[view->index];
    view->device = &view->state->devices[view->index];
    if (handle->kind == HANDLE_DEVICE)
        return NVML_SUCCESS;
    view->instance_index = handle->instance;
    view->instance = &view->device->instances[handle->instance];
    view->profile = &view->description->profiles[view->instance->profile];
    if (!view->instance->live)
        return nvml_leave(view, NVML_ERROR_NOT_FOUND);
    if (handle->kind == HANDLE_GPU_INSTANCE)
        return NVML_SUCCESS;
    view->compute_index = handle->compute;
    view->compute = &view->instance->compute[handle->compute];
    return view->compute->live ? NVML_SUCCESS : nvml_leave(view, NVML_ERROR_NOT_FOUND);
}

nvmlReturn_t nvml_result(int engine_result)
{
    switch (engine_result) {
    case -EBUSY:
        return NVML_ERROR_IN_USE;
    case -ENOTSUP:
        return NVML_ERROR_NOT_SUPPORTED;
    case -ENOSPC:
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    case -EINVAL:
        return NVML_ERROR_INVALID_ARGUMENT;
    default:
        return engine_result < 0 ? NVML_ERROR_UNKNOWN : NVML_SUCCESS;
    }
}

nvmlReturn_t nvml_permitted(const struct nvml_view *view)
{
    return view->device->health.no_permission ? NVML_ERROR_NO_PERMISSION : NVML_SUCCESS;
}

nvmlReturn_t nvml_text(char *out, unsigned length, const char *text)
{
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

/* --- Initialisation ---------------------------------------------------------------------------------------------------------- */

NVML_API nvmlInitWithFlags(unsigned flags);
NVML_API nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    if (sim_engine_open() || !sim_node()->nvidia_count)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    users++;
    return NVML_SUCCESS;
}

NVML_API nvmlInit_v2(void);
NVML_API nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}
NVML_SAME(nvmlInit, nvmlInit_v2);

NVML_API nvmlShutdown(void);
NVML_API nvmlShutdown(void)
{
    if (users <= 0)
        return NVML_ERROR_UNINITIALIZED;
    users--;
    return NVML_SUCCESS;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(nvmlReturn_t result);
const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
#define RESULT_CASE(name, number, text)                                                                                                    \
    case NVML_##name:                                                                                                                      \
        return text;
        NVML_RESULTS(RESULT_CASE)
    }
    return "Unknown Error";
}

NVML_API nvmlSystemGetDriverVersion(char *version, unsigned length);
NVML_API nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    if (!version || nvml_initialized() != NVML_SUCCESS)
        return version ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    return nvml_text(version, length, sim_node()->driver_version);
}

NVML_API nvmlSystemGetNVMLVersion(char *version, unsigned length);
NVML_API nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    char text[48];
    if (!version || nvml_initialized() != NVML_SUCCESS)
        return version ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    snprintf(text, sizeof text, "%u.%s", sim_node()->cuda_version / 1000, sim_node()->driver_version);
    return nvml_text(version, length, text);
}

NVML_API nvmlSystemGetCudaDriverVersion_v2(int *version);
NVML_API nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    if (!version || nvml_initialized() != NVML_SUCCESS)
        return version ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)sim_node()->cuda_version;
    return NVML_SUCCESS;
}
NVML_SAME(nvmlSystemGetCudaDriverVersion, nvmlSystemGetCudaDriverVersion_v2);

NVML_API nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length);
NVML_API nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length)
{
    if (!name || nvml_initialized() != NVML_SUCCESS)
        return name ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = NVML_ERROR_NOT_FOUND;
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    for (int i = 0; i < SIM_PROCESSES_MAX && result == NVML_ERROR_NOT_FOUND; i++)
        if (state->processes[i].state == SIM_PROCESS_LIVE && sim_process_pid(state, i) == (int)pid)
            result = nvml_text(name, length, state->processes[i].command);
    sim_leave(state);
    return result;
}

/* --- Finding devices --------------------------------------------------------------------------------------------------------- */

NVML_API nvmlDeviceGetCount_v2(unsigned *count);
NVML_API nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!count || nvml_initialized() != NVML_SUCCESS)
        return count ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    *count = sim_node()->nvidia_count;
    return NVML_SUCCESS;
}
NVML_SAME(nvmlDeviceGetCount, nvmlDeviceGetCount_v2);

NVML_API nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device);
NVML_API nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (!device || index >= sim_node()->nvidia_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (sim_device_reach((int)index))
        return NVML_ERROR_GPU_IS_LOST;
    *device = nvml_device_handle((int)index);
    return NVML_SUCCESS;
}
NVML_SAME(nvmlDeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex_v2);

static nvmlReturn_t find_mig(const char *uuid, nvmlDevice_t *device)
{
    nvmlReturn_t result = NVML_ERROR_NOT_FOUND;
    struct sim_state *state = sim_enter();
    for (int d = 0; d < (int)state->node.nvidia_count; d++)
        for (int i = 0; i < SIM_INSTANCES_MAX; i++)
            for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
                const struct sim_gpu_instance *instance = &state->devices[d].instances[i];
                if (!instance->live || !instance->compute[c].live || strcasecmp(instance->compute[c].uuid, uuid))
                    continue;
                *device = nvml_mig_handle(d, i, c);
                result = NVML_SUCCESS;
            }
    sim_leave(state);
    return result;
}

NVML_API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device);
NVML_API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (!uuid || !device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int d = 0; d < (int)sim_node()->nvidia_count; d++)
        if (!strcasecmp(sim_node()->devices[d].uuid, uuid)) {
            *device = nvml_device_handle(d);
            return NVML_SUCCESS;
        }
    return find_mig(uuid, device);
}

NVML_API nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device);
NVML_API nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    for (int d = 0; serial && device && d < (int)sim_node()->nvidia_count; d++)
        if (!strcmp(sim_node()->devices[d].serial, serial)) {
            *device = nvml_device_handle(d);
            return NVML_SUCCESS;
        }
    return serial && device ? NVML_ERROR_NOT_FOUND : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device);
NVML_API nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device)
{
    unsigned domain = 0, bus = 0, slot = 0;
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (!id || !device || (sscanf(id, "%x:%x:%x", &domain, &bus, &slot) != 3 && (domain = 0, sscanf(id, "%x:%x", &bus, &slot) != 2)))
        return NVML_ERROR_INVALID_ARGUMENT;
    for (int d = 0; d < (int)sim_node()->nvidia_count; d++) {
        const struct sim_description *description = &sim_node()->devices[d];
        if (description->pci_domain == domain && description->pci_bus == bus && description->pci_device == slot) {
            *device = nvml_device_handle(d);
            return NVML_SUCCESS;
        }
    }
    return NVML_ERROR_NOT_FOUND;
}
NVML_SAME(nvmlDeviceGetHandleByPciBusId, nvmlDeviceGetHandleByPciBusId_v2);

/* --- What exists and is not modelled ------------------------------------------------------------------------------------------- */

#define REFUSED_DEFINITION(symbol)                                                                                                         \
    NVML_API symbol(void);                                                                                                                 \
    NVML_API symbol(void)                                                                                                                  \
    {                                                                                                                                      \
        return NVML_ERROR_NOT_SUPPORTED;                                                                                                   \
    }
NVML_REFUSED(REFUSED_DEFINITION)
