/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device is, who is on it, and its tiles and virtual functions.
 */
#include <stdio.h>
#include <string.h>

#include "sysman.h"

#define UNITS_OF_A_CORE 8 /* vector engines of a Xe core */

uint64_t zes_now_us(void)
{
    return sim_now_ns() / 1000;
}

zes_pci_address_t zes_address(const struct sim_description *description, unsigned function)
{
    unsigned place = (description->pci_device << 3) + function; /* device << 3 | function, as with ARI */
    return (zes_pci_address_t){description->pci_domain, description->pci_bus, place >> 3, place & 7};
}

/* The device's own; a virtual function's differs in the second to last byte, a tile's in the last. */
void zes_uuid(const struct sim_description *description, unsigned function, zes_uuid_t *uuid)
{
    unsigned digits = 0, value;
    memset(uuid, 0, sizeof *uuid);
    for (const char *at = description->uuid; *at && digits < 32; at++)
        if (*at != '-' && sscanf((char[]){*at, 0}, "%x", &value) == 1) {
            uuid->id[digits / 2] |= (uint8_t)(digits % 2 ? value : value << 4);
            digits++;
        }
    uuid->id[14] ^= (uint8_t)function;
}

uint64_t zes_capacity(const struct zes_view *view)
{
    return view->instance ? zes_profile(view)->memory_bytes : view->description->vram_bytes - view->description->reserve_bytes;
}

uint64_t zes_spent(const struct zes_view *view, int tile)
{
    if (view->instance)
        return view->instance->spent_bytes;
    uint64_t sum = tile < 0 ? view->device->spent_bytes : view->device->spent_bytes / view->tiles;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &view->device->instances[i];
        const struct sim_profile *profile = &view->description->profiles[instance->profile];
        if (!instance->live)
            continue;
        if (strcmp(profile->layout, "tiles")) /* a virtual function's quota is gone from the physical one, used or not */
            sum += tile < 0 ? profile->memory_bytes : profile->memory_bytes / view->tiles;
        else if (tile < 0 || instance->start == (uint32_t)tile)
            sum += instance->spent_bytes;
    }
    return sum;
}

static unsigned cores(const struct zes_view *view)
{
    return view->instance ? zes_profile(view)->multiprocessors : view->description->multiprocessors;
}

static void continue_properties(const struct zes_view *view, zes_base_t *next)
{
    for (; next; next = next->pNext) {
        if (next->stype != ZES_STRUCTURE_TYPE_DEVICE_EXT_PROPERTIES)
            continue;
        zes_device_ext_properties_t *more = (zes_device_ext_properties_t *)next;
        zes_uuid(view->description, view->handle.function, &more->uuid);
        more->type = ZES_DEVICE_TYPE_GPU;
        more->flags = ZES_DEVICE_PROPERTY_FLAG_ECC;
    }
}

ZES_API zesDeviceGetProperties(zes_handle_t device, zes_device_properties_t *out);
ZES_API zesDeviceGetProperties(zes_handle_t device, zes_device_properties_t *out)
{
    ENTER(device, ZES_DEVICE, out);
    unsigned subslices = UNITS_OF_A_CORE * 2, all = cores(&view);
    while (all % subslices)
        subslices /= 2;
    ze_device_properties_t *core = &out->core;
    core->type = ZES_DEVICE_TYPE_GPU;
    core->vendorId = view.description->pci_device_id & 0xffff;
    core->deviceId = view.description->pci_device_id >> 16;
    core->coreClockRate = view.description->clock_khz / 1000;
    core->maxMemAllocSize = zes_capacity(&view);
    core->numThreadsPerEU = 8;
    core->numEUsPerSubslice = UNITS_OF_A_CORE;
    core->numSubslicesPerSlice = subslices;
    core->numSlices = all / subslices;
    zes_uuid(view.description, view.handle.function, &core->uuid);
    snprintf(core->name, sizeof core->name, "%s", view.description->name);
    out->numSubdevices = view.tiles > 1 ? view.tiles : 0;
    snprintf(out->serialNumber, sizeof out->serialNumber, "%s", view.description->serial);
    snprintf(out->boardNumber, sizeof out->boardNumber, "unknown");
    snprintf(out->brandName, sizeof out->brandName, "unknown");
    snprintf(out->modelName, sizeof out->modelName, "%.63s", view.description->name);
    snprintf(out->vendorName, sizeof out->vendorName, "Intel(R) Corporation");
    snprintf(out->driverVersion, sizeof out->driverVersion, "%s", view.state->node.driver_version);
    continue_properties(&view, out->base.pNext);
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesDeviceGetSubDevicePropertiesExp(zes_handle_t device, uint32_t *count, zes_subdevice_exp_properties_t *out);
ZES_API zesDeviceGetSubDevicePropertiesExp(zes_handle_t device, uint32_t *count, zes_subdevice_exp_properties_t *out)
{
    ENTER(device, ZES_DEVICE, count);
    unsigned there = view.tiles > 1 ? view.tiles : 0;
    if (!out || *count > there || !*count)
        *count = there;
    for (uint32_t i = 0; out && i < *count; i++) {
        out[i].subdeviceId = i;
        zes_uuid(view.description, 0, &out[i].uuid);
        out[i].uuid.id[15] ^= (uint8_t)(i + 1);
    }
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesDeviceGetState(zes_handle_t device, zes_device_state_t *out);
ZES_API zesDeviceGetState(zes_handle_t device, zes_device_state_t *out)
{
    ENTER(device, ZES_DEVICE, out);
    out->reset = 0;
    out->repaired = 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

/* The operating system's own knowledge: a device that hangs or is lost has an address all the same. */
ZES_API zesDevicePciGetProperties(zes_handle_t device, zes_pci_properties_t *out);
ZES_API zesDevicePciGetProperties(zes_handle_t device, zes_pci_properties_t *out)
{
    struct zes_view view;
    ze_result_t entered = out ? zes_enter_quietly(device, ZES_DEVICE, &view) : ZE_RESULT_ERROR_INVALID_NULL_POINTER;
    if (entered != ZE_RESULT_SUCCESS)
        return entered;
    out->address = zes_address(view.description, view.handle.function);
    out->maxSpeed = (zes_pci_speed_t){-1, -1, -1};
    out->haveBandwidthCounters = out->havePacketCounters = out->haveReplayCounters = 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesDevicePciGetState(zes_handle_t device, zes_pci_state_t *out);
ZES_API zesDevicePciGetState(zes_handle_t device, zes_pci_state_t *out)
{
    ENTER(device, ZES_DEVICE, out);
    out->status = 1;
    out->qualityIssues = out->stabilityIssues = 0;
    out->speed = (zes_pci_speed_t){-1, -1, -1};
    LEAVE(ZE_RESULT_SUCCESS);
}

/* Whether the account is on the function; tiles are no functions, so their processes are the device's. */
static bool is_here(const struct zes_view *view, const struct sim_account *account)
{
    if (!account->live || !account->contexts || account->device != view->handle.device)
        return false;
    if (view->instance || account->gpu_instance < 0)
        return account->gpu_instance == view->instance_index;
    const struct sim_gpu_instance *instance = &view->device->instances[account->gpu_instance];
    return !strcmp(view->description->profiles[instance->profile].layout, "tiles");
}

static uint64_t held_by(const struct zes_view *view, int process, bool *here)
{
    uint64_t bytes = 0;
    *here = false;
    for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
        const struct sim_account *account = &view->state->processes[process].accounts[a];
        if (is_here(view, account)) {
            *here = true;
            bytes += account->granule_bytes + account->context_bytes;
        }
    }
    return bytes;
}

ZES_API zesDeviceProcessesGetState(zes_handle_t device, uint32_t *count, zes_process_state_t *out);
ZES_API zesDeviceProcessesGetState(zes_handle_t device, uint32_t *count, zes_process_state_t *out)
{
    ENTER(device, ZES_DEVICE, count);
    uint32_t there = 0;
    sim_process_sweep(view.state);
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        bool here;
        int pid = view.state->processes[p].state == SIM_PROCESS_LIVE ? sim_process_pid(view.state, p) : 0;
        uint64_t bytes = held_by(&view, p, &here);
        if (!pid || !here)
            continue;
        if (out && there < *count) {
            out[there].processId = (uint32_t)pid;
            out[there].memSize = bytes;
            out[there].sharedSize = 0;
            out[there].engines = ZES_ENGINE_TYPE_FLAG_COMPUTE;
        }
        there++;
    }
    bool cut = out && *count && *count < there;
    if (!cut)
        *count = there;
    LEAVE(cut ? ZE_RESULT_ERROR_INVALID_SIZE : ZE_RESULT_SUCCESS);
}

/* --- Virtual functions, seen from the physical one ----------------------------------------------------------------------------- */

ZES_API zesDeviceEnumEnabledVFExp(zes_handle_t device, uint32_t *count, zes_handle_t *functions);
ZES_API zesDeviceEnumEnabledVFExp(zes_handle_t device, uint32_t *count, zes_handle_t *functions)
{
    ENTER(device, ZES_DEVICE, count);
    unsigned there = view.instance ? 0 : zes_functions(view.state, view.handle.device);
    if (!functions || *count > there || !*count)
        *count = there;
    for (uint32_t i = 0; functions && i < *count; i++)
        functions[i] = zes_handle_make((struct zes_handle){ZES_VF, view.handle.device, (uint8_t)(i + 1), 0});
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesVFManagementGetVFCapabilitiesExp2(zes_handle_t function, zes_vf_exp2_capabilities_t *out);
ZES_API zesVFManagementGetVFCapabilitiesExp2(zes_handle_t function, zes_vf_exp2_capabilities_t *out)
{
    ENTER(function, ZES_VF, out);
    out->address = zes_address(view.description, view.handle.function);
    out->vfDeviceMemSize = zes_capacity(&view);
    out->vfID = view.handle.function;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesVFManagementGetVFMemoryUtilizationExp2(zes_handle_t function, uint32_t *count, zes_vf_util_mem_exp2_t *out);
ZES_API zesVFManagementGetVFMemoryUtilizationExp2(zes_handle_t function, uint32_t *count, zes_vf_util_mem_exp2_t *out)
{
    ENTER(function, ZES_VF, count);
    if (out && *count) {
        out->vfMemLocation = 1;
        out->vfMemUtilized = zes_spent(&view, -1);
    }
    *count = 1;
    LEAVE(ZE_RESULT_SUCCESS);
}
