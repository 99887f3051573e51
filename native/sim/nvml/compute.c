/* SPDX-License-Identifier: Apache-2.0
 *
 * MIG through NVML: compute instances inside of a GPU instance. A profile's id is its number.
 */
#include <stdio.h>
#include <string.h>

#include "nvml.h"

static nvmlReturn_t describe(const struct nvml_view *view, unsigned profile, unsigned engines, nvmlComputeInstanceProfileInfo_t *info)
{
    const struct sim_profile *p = view->profile;
    unsigned instance = (unsigned)view->instance_index;
    unsigned slices = sim_mig_compute_slices(view->state, view->index, instance, profile);
    if (!slices || engines)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlComputeInstanceProfileInfo_t){profile, slices, p->compute_slices / slices,
                                               sim_mig_compute_multiprocessors(view->state, view->index, instance, slices), p->copy_engines,
                                               p->decoders, p->encoders, p->jpegs, p->ofas};
    return NVML_SUCCESS;
}

NVML_API nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned profile, unsigned engines,
                                                      nvmlComputeInstanceProfileInfo_t *info);
NVML_API nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned profile, unsigned engines,
                                                      nvmlComputeInstanceProfileInfo_t *info)
{
    ENTER(instance, KIND(GPU_INSTANCE), info);
    LEAVE(describe(&view, profile, engines, info));
}

NVML_API nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned profile, unsigned engines,
                                                       nvmlComputeInstanceProfileInfo_v2_t *info);
NVML_API nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned profile, unsigned engines,
                                                       nvmlComputeInstanceProfileInfo_v2_t *info)
{
    ENTER(instance, KIND(GPU_INSTANCE), info);
    if (info->version != NVML_COMPUTE_INSTANCE_PROFILE_INFO_V2)
        LEAVE(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    nvmlReturn_t result = describe(&view, profile, engines, &info->info);
    if (result == NVML_SUCCESS)
        snprintf(info->name, sizeof info->name, "MIG %uc.%s", info->info.slices, view.profile->name);
    LEAVE(result);
}

/* How many more of `profile` fit, and the compute slices at which one could start. */
static unsigned free_starts(const struct nvml_view *view, unsigned slices, nvmlPlacement_t *placements)
{
    unsigned used = 0, count = 0;
    for (int c = 0; c < SIM_COMPUTE_MAX; c++)
        if (view->instance->compute[c].live)
            used |= ((1u << view->instance->compute[c].compute_slices) - 1) << view->instance->compute[c].start;
    for (unsigned start = 0; start + slices <= view->profile->compute_slices; start += slices)
        if (!(used & ((1u << slices) - 1) << start)) {
            if (placements)
                placements[count] = (nvmlPlacement_t){start, slices};
            count++;
        }
    return count;
}

NVML_API nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, unsigned profile, unsigned *count);
NVML_API nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, unsigned profile, unsigned *count)
{
    ENTER(instance, KIND(GPU_INSTANCE), count);
    unsigned slices = sim_mig_compute_slices(view.state, view.index, (unsigned)view.instance_index, profile);
    if (slices)
        *count = sim_mig_compute_free(view.state, view.index, (unsigned)view.instance_index) / slices;
    LEAVE(slices ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT);
}

NVML_API nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, unsigned profile, nvmlPlacement_t *placements,
                                                             unsigned *count);
NVML_API nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, unsigned profile, nvmlPlacement_t *placements,
                                                             unsigned *count)
{
    ENTER(instance, KIND(GPU_INSTANCE), count);
    unsigned slices = sim_mig_compute_slices(view.state, view.index, (unsigned)view.instance_index, profile);
    if (slices)
        *count = free_starts(&view, slices, placements);
    LEAVE(slices ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT);
}

NVML_API nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned profile, nvmlComputeInstance_t *compute);
NVML_API nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned profile, nvmlComputeInstance_t *compute)
{
    ENTER(instance, KIND(GPU_INSTANCE), compute);
    if (nvml_permitted(&view) != NVML_SUCCESS)
        LEAVE(NVML_ERROR_NO_PERMISSION);
    int made = sim_mig_compute_create(view.state, view.index, (unsigned)view.instance_index, profile);
    if (made >= 0)
        *compute = nvml_compute_handle(view.index, view.instance_index, made);
    LEAVE(nvml_result(made));
}

NVML_API nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute);
NVML_API nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute)
{
    ENTER(compute, KIND(COMPUTE_INSTANCE), true);
    if (nvml_permitted(&view) != NVML_SUCCESS)
        LEAVE(NVML_ERROR_NO_PERMISSION);
    LEAVE(nvml_result(sim_mig_compute_destroy(view.state, view.index, (unsigned)view.instance_index, (unsigned)view.compute_index)));
}

NVML_API nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned profile, nvmlComputeInstance_t *computes, unsigned *count);
NVML_API nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned profile, nvmlComputeInstance_t *computes, unsigned *count)
{
    ENTER(instance, KIND(GPU_INSTANCE), computes && count);
    if (!sim_mig_compute_slices(view.state, view.index, (unsigned)view.instance_index, profile))
        LEAVE(NVML_ERROR_INVALID_ARGUMENT);
    *count = 0;
    for (int c = 0; c < SIM_COMPUTE_MAX; c++)
        if (view.instance->compute[c].live && view.instance->compute[c].profile == profile)
            computes[(*count)++] = nvml_compute_handle(view.index, view.instance_index, c);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute);
NVML_API nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute)
{
    ENTER(instance, KIND(GPU_INSTANCE), compute);
    for (int c = 0; c < SIM_COMPUTE_MAX; c++)
        if (view.instance->compute[c].live && view.instance->compute[c].id == id) {
            *compute = nvml_compute_handle(view.index, view.instance_index, c);
            LEAVE(NVML_SUCCESS);
        }
    LEAVE(NVML_ERROR_NOT_FOUND);
}

NVML_API nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info);
NVML_API nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
    ENTER(compute, KIND(COMPUTE_INSTANCE), info);
    *info = (nvmlComputeInstanceInfo_t){nvml_device_handle(view.index), nvml_instance_handle(view.index, view.instance_index), view.compute->id,
                                        view.compute->profile, {view.compute->start, view.compute->compute_slices}};
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlComputeInstanceGetInfo, nvmlComputeInstanceGetInfo_v2);
