/* SPDX-License-Identifier: Apache-2.0
 *
 * MIG through NVML: the mode, GPU instances and their profiles.
 */
#include <stdio.h>
#include <string.h>

#include "nvml.h"

#define MIB (1ULL << 20)

NVML_API nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending);
NVML_API nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    ENTER(device, KIND(DEVICE), current && pending);
    if (!view.description->mig_capable)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *current = view.device->mig_enabled;
    *pending = view.device->mig_pending;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation);
NVML_API nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation)
{
    ENTER(device, KIND(DEVICE), activation && mode <= 1);
    if (nvml_permitted(&view) != NVML_SUCCESS)
        LEAVE(NVML_ERROR_NO_PERMISSION);
    nvmlReturn_t result = *activation = nvml_result(sim_mig_enable(view.state, view.index, mode));
    if (result == NVML_SUCCESS && view.device->mig_enabled != mode)
        *activation = NVML_ERROR_RESET_REQUIRED;
    LEAVE(result);
}

NVML_API nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count);
NVML_API nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    ENTER(device, KIND(DEVICE), count);
    *count = view.description->compute_slices;
    LEAVE(NVML_SUCCESS);
}

/* --- Profiles ------------------------------------------------------------------------------------------------------------------- */

static const struct sim_profile *profile_by_id(const struct nvml_view *view, unsigned id)
{
    for (unsigned i = 0; i < view->description->profile_count; i++)
        if (view->description->profiles[i].id == id)
            return &view->description->profiles[i];
    return NULL;
}

static const struct sim_profile *profile_by_index(const struct nvml_view *view, unsigned index)
{
    for (unsigned i = 0; i < view->description->profile_count; i++)
        if (view->description->profiles[i].index == index)
            return &view->description->profiles[i];
    return NULL;
}

static unsigned position(const struct nvml_view *view, const struct sim_profile *profile)
{
    return (unsigned)(profile - view->description->profiles);
}

static nvmlReturn_t put_profile(const struct sim_profile *p, nvmlGpuInstanceProfileInfo_t *info)
{
    if (!p)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlGpuInstanceProfileInfo_t){p->id, 0, p->compute_slices, p->max_instances, p->multiprocessors, p->copy_engines,
                                           p->decoders, p->encoders, p->jpegs, p->ofas, p->memory_bytes / MIB};
    return NVML_SUCCESS;
}

static nvmlReturn_t put_profile_v2(const struct sim_profile *p, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    if (info->version != NVML_GPU_INSTANCE_PROFILE_INFO_V2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!p)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlGpuInstanceProfileInfo_v2_t){info->version, p->id, 0, p->compute_slices, p->max_instances, p->multiprocessors, p->copy_engines,
                                              p->decoders, p->encoders, p->jpegs, p->ofas, p->memory_bytes / MIB, ""};
    snprintf(info->name, sizeof info->name, "MIG %s", p->name);
    return NVML_SUCCESS;
}

NVML_API nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_t *info);
NVML_API nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_t *info)
{
    ENTER(device, KIND(DEVICE), info);
    LEAVE(put_profile(profile_by_index(&view, index), info));
}

NVML_API nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_v2_t *info);
NVML_API nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    ENTER(device, KIND(DEVICE), info);
    LEAVE(put_profile_v2(profile_by_index(&view, index), info));
}

NVML_API nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned id, nvmlGpuInstanceProfileInfo_v2_t *info);
NVML_API nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned id, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    ENTER(device, KIND(DEVICE), info);
    LEAVE(put_profile_v2(profile_by_id(&view, id), info));
}

/* The profile with `id` on a device in MIG mode. */
static nvmlReturn_t enabled_profile(const struct nvml_view *view, unsigned id, const struct sim_profile **profile)
{
    *profile = profile_by_id(view, id);
    if (!view->device->mig_enabled)
        return NVML_ERROR_NOT_SUPPORTED;
    return *profile ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id, nvmlPlacement_t *placements, unsigned *count);
NVML_API nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id, nvmlPlacement_t *placements, unsigned *count)
{
    const struct sim_profile *profile;
    ENTER(device, KIND(DEVICE), count);
    nvmlReturn_t result = enabled_profile(&view, id, &profile);
    if (result != NVML_SUCCESS)
        LEAVE(result);
    for (unsigned i = 0; placements && i < profile->start_count; i++)
        placements[i] = (nvmlPlacement_t){profile->starts[i], profile->size};
    *count = profile->start_count;
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetGpuInstancePossiblePlacements, nvmlDeviceGetGpuInstancePossiblePlacements_v2);

NVML_API nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id, unsigned *count);
NVML_API nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id, unsigned *count)
{
    const struct sim_profile *profile;
    ENTER(device, KIND(DEVICE), count);
    nvmlReturn_t result = enabled_profile(&view, id, &profile);
    if (result == NVML_SUCCESS)
        *count = sim_mig_remaining(view.state, view.index, position(&view, profile));
    LEAVE(result);
}

/* --- GPU instances ---------------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t create(nvmlDevice_t device, unsigned id, int start, nvmlGpuInstance_t *instance)
{
    const struct sim_profile *profile;
    ENTER(device, KIND(DEVICE), instance);
    nvmlReturn_t result = enabled_profile(&view, id, &profile);
    if (result == NVML_SUCCESS)
        result = nvml_permitted(&view);
    if (result != NVML_SUCCESS)
        LEAVE(result);
    int made = sim_mig_create(view.state, view.index, position(&view, profile), start);
    if (made >= 0)
        *instance = nvml_instance_handle(view.index, made);
    LEAVE(nvml_result(made));
}

NVML_API nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance);
NVML_API nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    return create(device, id, -1, instance);
}

NVML_API nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned id, const nvmlPlacement_t *at, nvmlGpuInstance_t *instance);
NVML_API nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned id, const nvmlPlacement_t *at, nvmlGpuInstance_t *instance)
{
    return at && at->start < 64 ? create(device, id, (int)at->start, instance) : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance);
NVML_API nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance)
{
    ENTER(instance, KIND(GPU_INSTANCE), true);
    if (nvml_permitted(&view) != NVML_SUCCESS)
        LEAVE(NVML_ERROR_NO_PERMISSION);
    LEAVE(nvml_result(sim_mig_destroy(view.state, view.index, (unsigned)view.instance_index)));
}

NVML_API nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instances, unsigned *count);
NVML_API nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instances, unsigned *count)
{
    const struct sim_profile *profile;
    ENTER(device, KIND(DEVICE), instances && count);
    nvmlReturn_t result = enabled_profile(&view, id, &profile);
    if (result != NVML_SUCCESS)
        LEAVE(result);
    *count = 0;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (view.device->instances[i].live && view.device->instances[i].profile == position(&view, profile))
            instances[(*count)++] = nvml_instance_handle(view.index, i);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance);
NVML_API nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *instance)
{
    ENTER(device, KIND(DEVICE), instance);
    if (!view.device->mig_enabled)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (view.device->instances[i].live && view.device->instances[i].id == id) {
            *instance = nvml_instance_handle(view.index, i);
            LEAVE(NVML_SUCCESS);
        }
    LEAVE(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info);
NVML_API nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
    ENTER(instance, KIND(GPU_INSTANCE), info);
    *info = (nvmlGpuInstanceInfo_t){nvml_device_handle(view.index), view.instance->id, view.profile->id, {view.instance->start, view.profile->size}};
    LEAVE(NVML_SUCCESS);
}

/* --- MIG devices --------------------------------------------------------------------------------------------------------------------- */

NVML_API nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig);
NVML_API nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig)
{
    ENTER(device, ANY_DEVICE, is_mig);
    *is_mig = view.compute != NULL;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig);
NVML_API nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *mig)
{
    ENTER(device, KIND(DEVICE), mig);
    if (!view.device->mig_enabled)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        for (int c = 0; c < SIM_COMPUTE_MAX; c++)
            if (view.device->instances[i].live && view.device->instances[i].compute[c].live && !index--) {
                *mig = nvml_mig_handle(view.index, i, c);
                LEAVE(NVML_SUCCESS);
            }
    LEAVE(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device);
NVML_API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device)
{
    ENTER(mig, KIND(MIG), device);
    *device = nvml_device_handle(view.index);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, unsigned *id);
NVML_API nvmlDeviceGetGpuInstanceId(nvmlDevice_t mig, unsigned *id)
{
    ENTER(mig, KIND(MIG), id);
    *id = view.instance->id;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, unsigned *id);
NVML_API nvmlDeviceGetComputeInstanceId(nvmlDevice_t mig, unsigned *id)
{
    ENTER(mig, KIND(MIG), id);
    *id = view.compute->id;
    LEAVE(NVML_SUCCESS);
}

/* Of MIG devices only, as the real library. */
NVML_API nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes);
NVML_API nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    ENTER(device, ANY_DEVICE, attributes);
    const struct sim_profile *p = view.profile;
    if (!view.compute)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *attributes = (nvmlDeviceAttributes_t){view.compute->multiprocessors, p->copy_engines, p->decoders, p->encoders, p->jpegs, p->ofas,
                                           p->compute_slices, view.compute->compute_slices, p->memory_bytes / MIB};
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetAttributes, nvmlDeviceGetAttributes_v2);
