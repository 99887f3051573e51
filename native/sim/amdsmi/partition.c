/* SPDX-License-Identifier: Apache-2.0
 *
 * Compute and memory partitions: layouts of the engine, whose names read `COMPUTE/NPSn`.
 *
 * A compute mode changes at once, on a device that nobody uses. A memory mode holds for the whole hive and changes as the
 * driver is loaded again, which nobody on any device survives; every device of the hive then has the compute mode that goes
 * with it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "amdsmi.h"

static const char *const compute_names[] = {"", "SPX", "DPX", "TPX", "QPX", "CPX"}; /* by AMDSMI_COMPUTE_PARTITION_* */
#define COMPUTE_COUNT (sizeof compute_names / sizeof *compute_names)

void smi_modes(const char *layout, char compute[8], unsigned *nps)
{
    *nps = 1;
    if (sscanf(layout, "%7[^/]/NPS%u", compute, nps) < 1)
        strcpy(compute, "SPX");
}

static unsigned type_of(const char *compute)
{
    for (unsigned i = 1; i < COMPUTE_COUNT; i++)
        if (!strcmp(compute_names[i], compute))
            return i;
    return 0;
}

static uint32_t put_text(char *out, uint32_t length, const char *text)
{
    if (length <= strlen(text))
        return AMDSMI_STATUS_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_gpu_compute_partition(void *handle, char *out, uint32_t length)
{
    char compute[8];
    unsigned nps;
    ENTER(handle, out);
    if (!view.description->profile_count)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    smi_modes(sim_layout_of(view.state, view.index), compute, &nps);
    LEAVE(put_text(out, length, compute));
}

AMDSMI_API amdsmi_get_gpu_memory_partition(void *handle, char *out, uint32_t length)
{
    char compute[8], text[16];
    unsigned nps;
    ENTER(handle, out);
    if (!view.description->profile_count)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    smi_modes(sim_layout_of(view.state, view.index), compute, &nps);
    snprintf(text, sizeof text, "NPS%u", nps);
    LEAVE(put_text(out, length, text));
}

/* The memory modes in which the device has that compute mode, of all of its compute modes if 0. */
static union amdsmi_nps_caps_t memory_caps(const struct sim_description *description, unsigned type)
{
    union amdsmi_nps_caps_t caps = {.nps_cap_mask = 0};
    for (unsigned p = 0; p < description->profile_count; p++) {
        char compute[8];
        unsigned nps;
        smi_modes(description->profiles[p].layout, compute, &nps);
        if (!type || type_of(compute) == type)
            caps.nps_cap_mask |= nps; /* NPS1, 2, 4 and 8 are bits 0 to 3 */
    }
    return caps;
}

AMDSMI_API amdsmi_get_gpu_memory_partition_config(void *handle, struct amdsmi_memory_partition_config_t *config)
{
    char compute[8];
    ENTER(handle, config);
    if (!view.description->profile_count)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    memset(config, 0, sizeof *config);
    config->partition_caps = memory_caps(view.description, 0);
    unsigned nps;
    smi_modes(sim_layout_of(view.state, view.index), compute, &nps);
    config->mp_mode = nps;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* Of the compute mode's partitions: how many there are, and XCDs in each. */
static bool find_mode(const struct sim_description *description, unsigned type, const struct sim_profile **found)
{
    *found = NULL;
    for (unsigned p = 0; p < description->profile_count && !*found; p++) {
        char compute[8];
        unsigned nps;
        smi_modes(description->profiles[p].layout, compute, &nps);
        if (type_of(compute) == type)
            *found = &description->profiles[p];
    }
    return *found;
}

static void fill_profile(struct amdsmi_accelerator_partition_profile_t *out, const struct sim_description *description, unsigned type, unsigned index)
{
    const struct sim_profile *mode;
    find_mode(description, type, &mode);
    memset(out, 0, sizeof *out);
    out->profile_type = type;
    out->num_partitions = mode->max_instances;
    out->memory_caps = memory_caps(description, type);
    out->profile_index = index;
    out->num_resources = 1;
}

AMDSMI_API amdsmi_get_gpu_accelerator_partition_profile_config(void *handle, struct amdsmi_accelerator_partition_profile_config_t *config)
{
    ENTER(handle, config);
    if (!view.description->profile_count)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    memset(config, 0, sizeof *config);
    const struct sim_profile *mode;
    for (unsigned type = 1; type < COMPUTE_COUNT; type++) {
        if (!find_mode(view.description, type, &mode))
            continue;
        unsigned index = config->num_profiles++;
        fill_profile(&config->profiles[index], view.description, type, index);
        config->resource_profiles[index].profile_index = index;
        config->resource_profiles[index].resource_type = AMDSMI_ACCELERATOR_XCC;
        config->resource_profiles[index].partition_resource = mode->compute_slices;
        config->resource_profiles[index].num_partitions_share_resource = 1;
    }
    config->num_resource_profiles = 1; /* of each profile */
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* The current one; `ids[0]` is the partition that was asked. */
AMDSMI_API amdsmi_get_gpu_accelerator_partition_profile(void *handle, struct amdsmi_accelerator_partition_profile_t *profile, uint32_t *ids)
{
    char compute[8];
    unsigned nps, index = 0;
    const struct sim_profile *mode;
    ENTER(handle, profile && ids);
    ids[0] = view.partition;
    smi_modes(sim_layout_of(view.state, view.index), compute, &nps);
    for (unsigned type = 1; type < type_of(compute); type++)
        index += find_mode(view.description, type, &mode);
    if (!view.description->profile_count)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    fill_profile(profile, view.description, type_of(compute), index);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

static uint32_t set_compute(struct smi_view *view, unsigned type)
{
    char compute[8], layout[24];
    unsigned nps;
    if (!view->description->profile_count)
        return AMDSMI_STATUS_NOT_SUPPORTED;
    if (!type || type >= COMPUTE_COUNT)
        return AMDSMI_STATUS_INVAL;
    smi_modes(sim_layout_of(view->state, view->index), compute, &nps);
    snprintf(layout, sizeof layout, "%s/NPS%u", compute_names[type], nps);
    return smi_status(sim_layout_set(view->state, view->index, layout));
}

AMDSMI_API amdsmi_set_gpu_compute_partition(void *handle, uint32_t type)
{
    ENTER(handle, true);
    LEAVE(set_compute(&view, type));
}

AMDSMI_API amdsmi_set_gpu_accelerator_partition_profile(void *handle, uint32_t index)
{
    const struct sim_profile *mode;
    ENTER(handle, true);
    for (unsigned type = 1; type < COMPUTE_COUNT; type++)
        if (find_mode(view.description, type, &mode) && index-- == 0)
            LEAVE(set_compute(&view, type));
    LEAVE(AMDSMI_STATUS_INVAL);
}

/* Which compute mode goes with that memory mode: none, one partition for each part of the memory, or one for each XCD. */
static int layout_with(const struct sim_description *description, unsigned nps)
{
    int found = -1;
    for (unsigned p = 0; p < description->profile_count; p++) {
        char compute[8];
        unsigned its;
        smi_modes(description->profiles[p].layout, compute, &its);
        if (its == nps && (found < 0 || (nps <= 2 && description->profiles[p].max_instances == nps)))
            found = (int)p;
        else if (its == nps && nps > 2)
            found = (int)p;
    }
    return found;
}

AMDSMI_API amdsmi_set_gpu_memory_partition(void *handle, uint32_t nps)
{
    ENTER(handle, true);
    int layout = layout_with(view.description, nps);
    if (layout < 0)
        LEAVE(view.description->profile_count ? AMDSMI_STATUS_INVAL : AMDSMI_STATUS_NOT_SUPPORTED);
    view.device->layout_pending = (uint32_t)layout + 1;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_set_gpu_memory_partition_mode(void *handle, uint32_t nps)
{
    return amdsmi_set_gpu_memory_partition(handle, nps);
}

/* Every handle is void after it. */
AMDSMI_API amdsmi_gpu_driver_reload(void)
{
    int result = 0;
    if (sim_engine_open())
        return AMDSMI_STATUS_DRIVER_NOT_LOADED;
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    for (int d = 0; d < (int)state->node.device_count; d++)
        if (smi_is_amd(state, d) && sim_mig_in_use(state, d, -1, -1))
            result = -EBUSY;
    for (int d = 0; !result && d < (int)state->node.device_count; d++) {
        uint32_t pending = state->devices[d].layout_pending;
        state->devices[d].layout_pending = 0;
        if (smi_is_amd(state, d) && pending)
            result = sim_group_layout_set(state, d, state->node.devices[d].profiles[pending - 1].layout);
    }
    sim_leave(state);
    if (result)
        return AMDSMI_STATUS_AMDGPU_RESTART_ERR;
    smi_forget();
    return AMDSMI_STATUS_SUCCESS;
}
