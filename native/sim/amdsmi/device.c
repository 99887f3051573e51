/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device or partition is and how it does: names, memory, activity, power, errors, processes.
 */
#include <stdio.h>
#include <string.h>

#include "amdsmi.h"

#define MIB (1ULL << 20)
#define PCI_VENDOR 0x1002
#define NOT_MEASURED 0xffff
#define CU_UNKNOWN 0xffffffffu
#define RENDER_FIRST 128
#define BLOCKS_WITH_ECC 0x3ULL /* UMC and SDMA */

#define TEXT(field, ...) snprintf(field, sizeof(field), __VA_ARGS__)

AMDSMI_API amdsmi_get_gpu_device_uuid(void *handle, uint32_t *length, char *uuid)
{
    ENTER(handle, length && uuid);
    if (*length <= strlen(view.description->uuid))
        LEAVE(AMDSMI_STATUS_INSUFFICIENT_SIZE);
    strcpy(uuid, view.description->uuid); /* all partitions of a device have one */
    *length = (uint32_t)strlen(uuid) + 1;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

static uint64_t target(const char *key)
{
    static const struct {
        const char *prefix;
        uint64_t gfx;
    } targets[] = {{"MI35", 0x950}, {"MI3", 0x942}, {"MI2", 0x90a}, {"MI1", 0x908}};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (!strncmp(key, targets[i].prefix, strlen(targets[i].prefix)))
            return targets[i].gfx;
    return UINT64_MAX;
}

AMDSMI_API amdsmi_get_gpu_asic_info(void *handle, struct amdsmi_asic_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    TEXT(info->market_name, "%s", view.description->name);
    TEXT(info->vendor_name, "Advanced Micro Devices Inc. [AMD/ATI]");
    TEXT(info->asic_serial, "0x%016llx", (unsigned long long)smi_unique_id(&view));
    info->vendor_id = info->subvendor_id = PCI_VENDOR;
    info->device_id = view.description->pci_device_id >> 16;
    info->subsystem_id = view.description->pci_subsystem_id >> 16;
    info->oam_id = (uint32_t)view.index;
    info->num_of_compute_units = view.profile ? view.profile->multiprocessors : view.description->multiprocessors;
    info->target_graphics_version = target(view.description->key);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_board_info(void *handle, struct amdsmi_board_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    TEXT(info->product_serial, "%s", view.description->serial);
    TEXT(info->product_name, "%s", view.description->name);
    TEXT(info->manufacturer_name, "AMD");
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_driver_info(void *handle, struct amdsmi_driver_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    TEXT(info->driver_name, "amdgpu");
    TEXT(info->driver_version, "6.14.14");
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_virtualization_mode(void *handle, uint32_t *mode)
{
    ENTER(handle, mode);
    *mode = AMDSMI_VIRTUALIZATION_MODE_BAREMETAL;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* --- Where KFD and DRM have it ------------------------------------------------------------------------------------------------ */

static unsigned cpu_nodes(const struct sim_state *state)
{
    unsigned most = 0;
    for (unsigned d = 0; d < state->node.device_count; d++)
        if (state->node.devices[d].numa_node > most)
            most = state->node.devices[d].numa_node;
    return most + 1;
}

AMDSMI_API amdsmi_get_gpu_kfd_info(void *handle, struct amdsmi_kfd_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    info->kfd_id = smi_unique_id(&view) & 0xffff;
    info->node_id = cpu_nodes(view.state) + smi_ordinal(&view);
    info->current_partition_id = view.partition;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* Devices come first among the DRM nodes, then what was partitioned off. */
static unsigned drm_minor(const struct smi_view *view)
{
    unsigned devices = 0, before = 0;
    for (int d = 0; d < (int)view->state->node.device_count; d++) {
        before += d < view->index && smi_is_amd(view->state, d);
        devices += smi_is_amd(view->state, d);
    }
    return view->partition ? devices + smi_ordinal(view) - before - 1 : before;
}

AMDSMI_API amdsmi_get_gpu_enumeration_info(void *handle, struct amdsmi_enumeration_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    info->drm_card = drm_minor(&view);
    info->drm_render = RENDER_FIRST + info->drm_card;
    info->hip_id = smi_ordinal(&view);
    info->hsa_id = cpu_nodes(view.state) + info->hip_id;
    TEXT(info->hip_uuid, "GPU-%016llx", (unsigned long long)smi_unique_id(&view));
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* --- Memory ------------------------------------------------------------------------------------------------------------------- */

static uint64_t memory_total(const struct smi_view *view)
{
    return view->profile ? view->profile->memory_bytes : view->description->vram_bytes;
}

static uint64_t memory_used(const struct smi_view *view)
{
    sim_process_sweep(view->state);
    return view->instance ? view->instance->spent_bytes : view->device->spent_bytes + view->description->reserve_bytes;
}

AMDSMI_API amdsmi_get_gpu_memory_total(void *handle, uint32_t type, uint64_t *bytes)
{
    ENTER(handle, bytes);
    if (type != AMDSMI_MEM_TYPE_VRAM && type != AMDSMI_MEM_TYPE_VIS_VRAM)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    *bytes = memory_total(&view);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_memory_usage(void *handle, uint32_t type, uint64_t *bytes)
{
    ENTER(handle, bytes);
    if (type != AMDSMI_MEM_TYPE_VRAM && type != AMDSMI_MEM_TYPE_VIS_VRAM)
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    *bytes = memory_used(&view);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_vram_usage(void *handle, struct amdsmi_vram_usage_t *usage)
{
    ENTER(handle, usage);
    *usage = (struct amdsmi_vram_usage_t){.vram_total = (uint32_t)(memory_total(&view) / MIB), .vram_used = (uint32_t)(memory_used(&view) / MIB)};
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_vram_info(void *handle, struct amdsmi_vram_info_t *info)
{
    ENTER(handle, info);
    memset(info, 0, sizeof *info);
    info->vram_type = view.description->memory_bus_bits >= 1024 ? AMDSMI_VRAM_TYPE_HBM3 : AMDSMI_VRAM_TYPE_GDDR6;
    info->vram_size = memory_total(&view) / MIB;
    info->vram_bit_width = view.description->memory_bus_bits;
    info->vram_max_bandwidth = view.description->memory_bytes_per_s / 1000000000;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* --- Activity, power, temperature ---------------------------------------------------------------------------------------------- */

static unsigned busy_ppm(const struct smi_view *view)
{
    return sim_device_busy_ppm(view->state, view->index, sim_now_ns());
}

AMDSMI_API amdsmi_get_gpu_activity(void *handle, struct amdsmi_engine_usage_t *usage)
{
    ENTER(handle, usage);
    unsigned percent = view.instance ? NOT_MEASURED : (busy_ppm(&view) + 5000) / 10000;
    *usage = (struct amdsmi_engine_usage_t){
        .gfx_activity = percent, .umc_activity = view.instance ? NOT_MEASURED : percent / 2, .mm_activity = NOT_MEASURED};
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_power_info(void *handle, struct amdsmi_power_info_t *info)
{
    ENTER(handle, info);
    uint64_t limit = view.description->power_limit_mw / 1000, idle = limit / 6;
    memset(info, 0, sizeof *info);
    info->socket_power = idle + (limit * 9 / 10 - idle) * busy_ppm(&view) / 1000000;
    info->current_socket_power = (uint32_t)info->socket_power;
    info->average_socket_power = NOT_MEASURED;
    info->gfx_voltage = info->soc_voltage = info->mem_voltage = NOT_MEASURED;
    info->power_limit = (uint32_t)limit;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_temp_metric(void *handle, uint32_t sensor, uint32_t metric, int64_t *celsius)
{
    static const int64_t critical = 100, emergency = 110;
    ENTER(handle, celsius);
    (void)sensor; /* all sensors of a simulated device read the same */
    if (metric == AMDSMI_TEMP_CURRENT)
        *celsius = sim_device_temperature_c(view.state, view.index);
    else if (metric == AMDSMI_TEMP_CRITICAL)
        *celsius = critical;
    else if (metric == AMDSMI_TEMP_EMERGENCY)
        *celsius = emergency;
    else
        LEAVE(AMDSMI_STATUS_NOT_SUPPORTED);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* --- Errors -------------------------------------------------------------------------------------------------------------------- */

AMDSMI_API amdsmi_get_gpu_total_ecc_count(void *handle, struct amdsmi_error_count_t *count)
{
    ENTER(handle, count);
    const struct sim_health *health = &view.device->health;
    *count = (struct amdsmi_error_count_t){.correctable_count = health->ecc_corrected, .uncorrectable_count = health->ecc_uncorrected};
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_ecc_count(void *handle, uint64_t block, struct amdsmi_error_count_t *count)
{
    return block & 1 ? amdsmi_get_gpu_total_ecc_count(handle, count) : AMDSMI_STATUS_NOT_SUPPORTED; /* all are the memory's */
}

AMDSMI_API amdsmi_get_gpu_ecc_enabled(void *handle, uint64_t *blocks)
{
    ENTER(handle, blocks);
    *blocks = BLOCKS_WITH_ECC;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_get_gpu_ecc_status(void *handle, uint64_t block, uint32_t *state)
{
    ENTER(handle, state);
    *state = block & BLOCKS_WITH_ECC ? AMDSMI_RAS_ERR_STATE_ENABLED : AMDSMI_RAS_ERR_STATE_DISABLED;
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

/* --- Processes ------------------------------------------------------------------------------------------------------------------ */

static void describe(const struct smi_view *view, int process, const struct sim_account *account, struct amdsmi_proc_info_t *info)
{
    struct sim_paid paid = sim_share_paid(view->state, process, account);
    memset(info, 0, sizeof *info);
    TEXT(info->name, "%s", view->state->processes[process].command);
    info->mem = info->memory_usage.vram_mem = account->granule_bytes + paid.granule_bytes + account->context_bytes;
    info->cu_occupancy = CU_UNKNOWN;
}

static bool here(const struct smi_view *view, const struct sim_account *account)
{
    return account->live && account->contexts && account->device == view->index &&
           (!view->instance || account->gpu_instance == view->instance_index);
}

/* Processes with a context here whose pid the caller can see. */
AMDSMI_API amdsmi_get_gpu_process_list(void *handle, uint32_t *count, struct amdsmi_proc_info_t *list)
{
    ENTER(handle, count);
    uint32_t limit = *count, all = 0;
    sim_process_sweep(view.state);
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        const struct sim_process *process = &view.state->processes[p];
        for (int a = 0; process->state == SIM_PROCESS_LIVE && a < SIM_ACCOUNTS_MAX; a++) {
            int pid = here(&view, &process->accounts[a]) ? sim_process_pid(view.state, p) : 0;
            if (!pid)
                continue;
            if (list && all < limit) {
                describe(&view, p, &process->accounts[a], &list[all]);
                list[all].pid = (uint32_t)pid;
            }
            all++;
        }
    }
    *count = all;
    LEAVE(limit && all > limit ? AMDSMI_STATUS_OUT_OF_RESOURCES : AMDSMI_STATUS_SUCCESS);
}
