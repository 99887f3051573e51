/* SPDX-License-Identifier: Apache-2.0
 *
 * The library as a whole: initialisation, the driver, devices, handles.
 */
#include <string.h>

#include "sysman.h"

#define HANDLE_MARK 0x5a45ULL

static atomic_int initialised;

zes_handle_t zes_handle_make(struct zes_handle handle)
{
    uint64_t word = HANDLE_MARK << 32 | (uint64_t)handle.kind << 24 | (uint64_t)handle.device << 16 | (uint64_t)handle.function << 8 | handle.part;
    return (zes_handle_t)(uintptr_t)word;
}

static bool read_handle(zes_handle_t handle, enum zes_kind kind, struct zes_handle *out)
{
    uint64_t word = (uint64_t)(uintptr_t)handle;
    *out = (struct zes_handle){(enum zes_kind)(word >> 24 & 0xff), (uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word};
    return word >> 32 == HANDLE_MARK && out->kind == kind && out->device < sim_node()->device_count;
}

static bool is_ours(unsigned device)
{
    return !strcmp(sim_node()->devices[device].vendor, "intel");
}

static bool is_function(const struct sim_profile *profile)
{
    return !strncmp(profile->layout, "vf", 2);
}

unsigned zes_tiles(const struct sim_description *description)
{
    for (unsigned p = 0; p < description->profile_count; p++)
        if (!strcmp(description->profiles[p].layout, "tiles"))
            return description->profiles[p].start_count;
    return 1;
}

unsigned zes_functions(const struct sim_state *state, int device)
{
    unsigned count = 0;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &state->devices[device].instances[i];
        count += instance->live && is_function(&state->node.devices[device].profiles[instance->profile]);
    }
    return count;
}

static ze_result_t find_function(struct zes_view *view)
{
    if (!view->handle.function)
        return ZE_RESULT_SUCCESS;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &view->device->instances[i];
        if (instance->live && instance->start + 1u == view->handle.function && is_function(&view->description->profiles[instance->profile])) {
            view->instance = instance;
            view->instance_index = i;
            view->tiles = 1;
            return ZE_RESULT_SUCCESS;
        }
    }
    return zes_leave(view, ZE_RESULT_ERROR_DEVICE_LOST);
}

ze_result_t zes_enter_quietly(zes_handle_t handle, enum zes_kind kind, struct zes_view *view)
{
    *view = (struct zes_view){.instance_index = -1};
    if (!initialised)
        return ZE_RESULT_ERROR_UNINITIALIZED;
    if (!handle)
        return ZE_RESULT_ERROR_INVALID_NULL_HANDLE;
    if (!read_handle(handle, kind, &view->handle) || !is_ours(view->handle.device))
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    view->state = sim_enter();
    view->description = &view->state->node.devices[view->handle.device];
    view->device = &view->state->devices[view->handle.device];
    view->tiles = zes_tiles(view->description);
    return find_function(view);
}

ze_result_t zes_enter(zes_handle_t handle, enum zes_kind kind, struct zes_view *view)
{
    struct zes_handle read;
    if (initialised && handle && read_handle(handle, kind, &read) && sim_device_reach(read.device))
        return ZE_RESULT_ERROR_DEVICE_LOST;
    return zes_enter_quietly(handle, kind, view);
}

ze_result_t zes_leave(struct zes_view *view, ze_result_t result)
{
    sim_leave(view->state);
    return result;
}

ze_result_t zes_list(zes_handle_t device, enum zes_kind kind, unsigned there, uint32_t *count, zes_handle_t *handles)
{
    struct zes_handle handle;
    read_handle(device, ZES_DEVICE, &handle);
    handle.kind = kind;
    if (!*count || *count > there || !handles)
        *count = there;
    for (uint32_t i = 0; handles && i < *count; i++) {
        handle.part = (uint8_t)i;
        handles[i] = zes_handle_make(handle);
    }
    return ZE_RESULT_SUCCESS;
}

const struct sim_profile *zes_profile(const struct zes_view *view)
{
    return view->instance ? &view->description->profiles[view->instance->profile] : NULL;
}

/* --- The driver ---------------------------------------------------------------------------------------------------------------- */

ZES_API zesInit(uint32_t flags);
ZES_API zesInit(uint32_t flags)
{
    (void)flags;
    bool any = false;
    if (sim_engine_open())
        return ZE_RESULT_ERROR_UNINITIALIZED;
    for (unsigned d = 0; d < sim_node()->device_count; d++)
        any = any || is_ours(d);
    if (!any)
        return ZE_RESULT_ERROR_UNINITIALIZED;
    zes_sysfs_refresh();
    initialised = 1;
    return ZE_RESULT_SUCCESS;
}

ZES_API zesDriverGet(uint32_t *count, zes_handle_t *drivers);
ZES_API zesDriverGet(uint32_t *count, zes_handle_t *drivers)
{
    if (!initialised)
        return ZE_RESULT_ERROR_UNINITIALIZED;
    if (!count)
        return ZE_RESULT_ERROR_INVALID_NULL_POINTER;
    if (drivers && *count)
        drivers[0] = zes_handle_make((struct zes_handle){ZES_DRIVER, 0, 0, 0});
    *count = 1;
    return ZE_RESULT_SUCCESS;
}

static uint32_t add(zes_handle_t *out, uint32_t room, uint32_t at, unsigned device, unsigned function)
{
    if (out && at < room)
        out[at] = zes_handle_make((struct zes_handle){ZES_DEVICE, (uint8_t)device, (uint8_t)function, 0});
    return at + 1;
}

ZES_API zesDeviceGet(zes_handle_t driver, uint32_t *count, zes_handle_t *devices);
ZES_API zesDeviceGet(zes_handle_t driver, uint32_t *count, zes_handle_t *devices)
{
    struct zes_handle handle;
    uint32_t there = 0;
    if (!initialised)
        return ZE_RESULT_ERROR_UNINITIALIZED;
    if (!count || !read_handle(driver, ZES_DRIVER, &handle))
        return count ? ZE_RESULT_ERROR_INVALID_NULL_HANDLE : ZE_RESULT_ERROR_INVALID_NULL_POINTER;
    zes_sysfs_refresh();
    struct sim_state *state = sim_enter();
    for (unsigned d = 0; d < state->node.device_count; d++) {
        unsigned functions = is_ours(d) ? zes_functions(state, (int)d) : 0;
        for (unsigned f = 0; is_ours(d) && f <= functions; f++)
            there = add(devices, *count, there, d, f);
    }
    sim_leave(state);
    if (!devices || *count > there || !*count)
        *count = there;
    return ZE_RESULT_SUCCESS;
}
