/* SPDX-License-Identifier: Apache-2.0
 *
 * A chip: what it is, its counters, and the processes on it.
 */
#include <stdio.h>
#include <string.h>

#include "dcmi.h"

static void name_chip(const struct sim_description *description, unsigned char type[DCMI_NAME_MAX], unsigned char name[DCMI_NAME_MAX])
{
    const char *space = strchr(description->name, ' '); /* "Ascend 910B3" */
    snprintf((char *)type, DCMI_NAME_MAX, "%.*s", space ? (int)(space - description->name) : 0, description->name);
    snprintf((char *)name, DCMI_NAME_MAX, "%.31s", space ? space + 1 : description->name);
}

DCMI_API dcmi_get_device_chip_info(int card, int device, struct dcmi_chip_info *info);
DCMI_API dcmi_get_device_chip_info(int card, int device, struct dcmi_chip_info *info)
{
    ENTER(card, device, info);
    *info = (struct dcmi_chip_info){.chip_ver = "V1", .aicore_cnt = view.description->multiprocessors};
    name_chip(view.description, info->chip_type, info->chip_name);
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_chip_info_v2(int card, int device, struct dcmi_chip_info_v2 *info);
DCMI_API dcmi_get_device_chip_info_v2(int card, int device, struct dcmi_chip_info_v2 *info)
{
    ENTER(card, device, info);
    *info = (struct dcmi_chip_info_v2){.chip_ver = "V1", .aicore_cnt = view.description->multiprocessors};
    name_chip(view.description, info->chip_type, info->chip_name);
    memcpy(info->npu_name, info->chip_name, sizeof info->npu_name);
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_pcie_info_v2(int card, int device, struct dcmi_pcie_info_all *info);
DCMI_API dcmi_get_device_pcie_info_v2(int card, int device, struct dcmi_pcie_info_all *info)
{
    ENTER(card, device, info);
    const struct sim_description *d = view.description;
    *info = (struct dcmi_pcie_info_all){
        .venderid = d->pci_device_id & 0xffff,       .deviceid = d->pci_device_id >> 16,
        .subvenderid = d->pci_subsystem_id & 0xffff, .subdeviceid = d->pci_subsystem_id >> 16,
        .domain = (int)d->pci_domain,                .bdf_busid = d->pci_bus,
        .bdf_deviceid = d->pci_device,
    };
    LEAVE(DCMI_OK);
}

/* The description's UUID is the five words of the die's id. */
DCMI_API dcmi_get_device_die_v2(int card, int device, int type, struct dcmi_die_id *die);
DCMI_API dcmi_get_device_die_v2(int card, int device, int type, struct dcmi_die_id *die)
{
    ENTER(card, device, die && (type == 0 || type == 1));
    unsigned *word = die->soc_die;
    int words = sscanf(view.description->uuid, "%8x-%8x-%8x-%8x-%8x", &word[0], &word[1], &word[2], &word[3], &word[4]);
    LEAVE(words == 5 ? DCMI_OK : DCMI_INNER_ERROR);
}

uint64_t npu_spent(const struct npu_view *view)
{
    uint64_t spent = view->device->spent_bytes;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        spent += view->device->instances[i].live ? view->device->instances[i].spent_bytes : 0;
    return spent;
}

static bool has_hbm(const struct npu_view *view)
{
    return !strncmp(view->description->key, "910", 3);
}

DCMI_API dcmi_get_device_hbm_info(int card, int device, struct dcmi_hbm_info *info);
DCMI_API dcmi_get_device_hbm_info(int card, int device, struct dcmi_hbm_info *info)
{
    ENTER(card, device, info);
    if (!has_hbm(&view))
        LEAVE(DCMI_NOT_SUPPORTED);
    sim_process_sweep(view.state);
    *info = (struct dcmi_hbm_info){.memory_size = view.description->vram_bytes / MIB,
                                   .freq = view.description->memory_clock_khz / 1000,
                                   .memory_usage = (npu_spent(&view) + view.description->reserve_bytes) / MIB,
                                   .temp = (int)sim_device_temperature_c(view.state, view.index)};
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_memory_info_v3(int card, int device, struct dcmi_get_memory_info_stru *info);
DCMI_API dcmi_get_device_memory_info_v3(int card, int device, struct dcmi_get_memory_info_stru *info)
{
    ENTER(card, device, info);
    *info = (struct dcmi_get_memory_info_stru){0};
    if (has_hbm(&view)) /* no DDR beside it */
        LEAVE(DCMI_OK);
    sim_process_sweep(view.state);
    uint64_t all = view.description->vram_bytes, spent = npu_spent(&view) + view.description->reserve_bytes;
    info->memory_size = all / MIB;
    info->memory_available = (all - spent) / MIB;
    info->utiliza = (unsigned)(100 * spent / all);
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_utilization_rate(int card, int device, int type, unsigned *percent);
DCMI_API dcmi_get_device_utilization_rate(int card, int device, int type, unsigned *percent)
{
    ENTER(card, device, percent);
    switch (type) {
    case DCMI_RATE_AICORE:
    case DCMI_RATE_NPU:
        *percent = sim_device_busy_ppm(view.state, view.index, sim_now_ns()) / 10000;
        LEAVE(DCMI_OK);
    case DCMI_RATE_MEMORY:
    case DCMI_RATE_HBM:
        *percent = (type == DCMI_RATE_HBM) == has_hbm(&view) ? (unsigned)(100 * npu_spent(&view) / view.description->vram_bytes) : 0;
        LEAVE(DCMI_OK);
    default:
        LEAVE(type == DCMI_RATE_AICPU ? (*percent = 0, DCMI_OK) : DCMI_NOT_SUPPORTED);
    }
}

DCMI_API dcmi_get_device_temperature(int card, int device, int *celsius);
DCMI_API dcmi_get_device_temperature(int card, int device, int *celsius)
{
    ENTER(card, device, celsius);
    *celsius = (int)sim_device_temperature_c(view.state, view.index);
    LEAVE(DCMI_OK);
}

/* In tenths of a watt. A seventh of the limit when idle. */
DCMI_API dcmi_get_device_power_info(int card, int device, int *power);
DCMI_API dcmi_get_device_power_info(int card, int device, int *power)
{
    ENTER(card, device, power);
    uint64_t limit = view.description->power_limit_mw, idle = limit / 7;
    if (!limit)
        LEAVE(DCMI_NOT_SUPPORTED);
    *power = (int)((idle + (limit * 9 / 10 - idle) * sim_device_busy_ppm(view.state, view.index, sim_now_ns()) / 1000000) / 100);
    LEAVE(DCMI_OK);
}

static uint64_t held_on(const struct sim_process *process, int device, bool *there)
{
    uint64_t bytes = 0;
    *there = false;
    for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
        const struct sim_account *account = &process->accounts[a];
        if (!account->live || !account->contexts || account->device != device)
            continue;
        *there = true;
        bytes += account->granule_bytes + account->context_bytes;
    }
    return bytes;
}

/* All processes on the chip, those on its vNPUs included. */
DCMI_API dcmi_get_device_resource_info(int card, int device, struct dcmi_proc_mem_info *list, int *count);
DCMI_API dcmi_get_device_resource_info(int card, int device, struct dcmi_proc_mem_info *list, int *count)
{
    ENTER(card, device, list && count);
    sim_process_sweep(view.state);
    *count = 0;
    for (int p = 0; p < SIM_PROCESSES_MAX && *count < DCMI_PROCESSES_MAX; p++) {
        bool there;
        if (view.state->processes[p].state != SIM_PROCESS_LIVE)
            continue;
        uint64_t bytes = held_on(&view.state->processes[p], view.index, &there);
        if (there)
            list[(*count)++] = (struct dcmi_proc_mem_info){sim_process_pid(view.state, p), (unsigned long)bytes};
    }
    LEAVE(DCMI_OK);
}
