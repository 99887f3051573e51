/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device is made of: memory, engines, schedulers, sensors, power, error counters. Memory and engines are each tile's.
 */
#include "sysman.h"

#define MAX_TEMPERATURE_C 105.0
#define IDLE_PART 5 /* an idle device takes a fifth of its limit */

static unsigned count_of(const struct zes_view *view, enum zes_kind kind)
{
    switch (kind) {
    case ZES_ENGINE:
        return 2 * view->tiles; /* compute and copy */
    case ZES_TEMPERATURE:
        return view->instance ? 0 : 2;
    case ZES_POWER:
        return view->instance ? 0 : 1;
    case ZES_RAS:
        return view->instance ? 0 : 2;
    default:
        return view->tiles;
    }
}

#define ENUMERATE(symbol, kind)                                                                                                            \
    ZES_API symbol(zes_handle_t device, uint32_t *count, zes_handle_t *handles);                                                           \
    ZES_API symbol(zes_handle_t device, uint32_t *count, zes_handle_t *handles)                                                            \
    {                                                                                                                                      \
        ENTER(device, ZES_DEVICE, count);                                                                                                  \
        LEAVE(zes_list(device, kind, count_of(&view, kind), count, handles));                                                              \
    }
ENUMERATE(zesDeviceEnumMemoryModules, ZES_MEMORY)
ENUMERATE(zesDeviceEnumEngineGroups, ZES_ENGINE)
ENUMERATE(zesDeviceEnumSchedulers, ZES_SCHEDULER)
ENUMERATE(zesDeviceEnumTemperatureSensors, ZES_TEMPERATURE)
ENUMERATE(zesDeviceEnumPowerDomains, ZES_POWER)
ENUMERATE(zesDeviceEnumRasErrorSets, ZES_RAS)

/* --- Memory -------------------------------------------------------------------------------------------------------------------- */

ZES_API zesMemoryGetProperties(zes_handle_t memory, zes_mem_properties_t *out);
ZES_API zesMemoryGetProperties(zes_handle_t memory, zes_mem_properties_t *out)
{
    ENTER(memory, ZES_MEMORY, out);
    out->type = view.description->memory_bus_bits > 1024 ? 0 : 17;
    out->onSubdevice = view.tiles > 1;
    out->subdeviceId = view.handle.part;
    out->location = 1;
    out->physicalSize = view.instance ? zes_capacity(&view) : view.description->vram_bytes / view.tiles;
    out->busWidth = view.description->memory_bus_bits ? (int32_t)(view.description->memory_bus_bits / view.tiles) : -1;
    out->numChannels = -1;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesMemoryGetState(zes_handle_t memory, zes_mem_state_t *out);
ZES_API zesMemoryGetState(zes_handle_t memory, zes_mem_state_t *out)
{
    ENTER(memory, ZES_MEMORY, out);
    uint64_t spent = zes_spent(&view, view.tiles > 1 ? view.handle.part : -1);
    out->health = 1;
    out->size = zes_capacity(&view) / view.tiles;
    out->free = spent < out->size ? out->size - spent : 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesMemoryGetBandwidth(zes_handle_t memory, zes_mem_bandwidth_t *out);
ZES_API zesMemoryGetBandwidth(zes_handle_t memory, zes_mem_bandwidth_t *out)
{
    ENTER(memory, ZES_MEMORY, out);
    *out = (zes_mem_bandwidth_t){.maxBandwidth = view.description->memory_bytes_per_s / view.tiles, .timestamp = zes_now_us()};
    LEAVE(ZE_RESULT_SUCCESS);
}

/* --- Engines and schedulers ---------------------------------------------------------------------------------------------------- */

ZES_API zesEngineGetProperties(zes_handle_t engine, zes_engine_properties_t *out);
ZES_API zesEngineGetProperties(zes_handle_t engine, zes_engine_properties_t *out)
{
    ENTER(engine, ZES_ENGINE, out);
    out->type = view.handle.part % 2 ? ZES_ENGINE_GROUP_COPY_ALL : ZES_ENGINE_GROUP_COMPUTE_ALL;
    out->onSubdevice = view.tiles > 1;
    out->subdeviceId = view.handle.part / 2;
    LEAVE(ZE_RESULT_SUCCESS);
}

static uint64_t busy_us(const struct zes_view *view)
{
    uint64_t sum = view->instance ? 0 : sim_timeline_busy_ns(&view->device->timeline);
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (view->device->instances[i].live && (view->instance_index < 0 || view->instance_index == i))
            sum += sim_timeline_busy_ns(&view->device->instances[i].compute[0].timeline);
    return sum / 1000;
}

ZES_API zesEngineGetActivity(zes_handle_t engine, zes_engine_stats_t *out);
ZES_API zesEngineGetActivity(zes_handle_t engine, zes_engine_stats_t *out)
{
    ENTER(engine, ZES_ENGINE, out);
    *out = (zes_engine_stats_t){view.handle.part % 2 ? 0 : busy_us(&view), zes_now_us()};
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesSchedulerGetProperties(zes_handle_t scheduler, zes_sched_properties_t *out);
ZES_API zesSchedulerGetProperties(zes_handle_t scheduler, zes_sched_properties_t *out)
{
    ENTER(scheduler, ZES_SCHEDULER, out);
    out->onSubdevice = view.tiles > 1;
    out->subdeviceId = view.handle.part;
    out->canControl = 0;
    out->engines = ZES_ENGINE_TYPE_FLAG_COMPUTE;
    out->supportedModes = 1u << ZES_SCHED_MODE_TIMESLICE;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesSchedulerGetCurrentMode(zes_handle_t scheduler, uint32_t *mode);
ZES_API zesSchedulerGetCurrentMode(zes_handle_t scheduler, uint32_t *mode)
{
    ENTER(scheduler, ZES_SCHEDULER, mode);
    *mode = ZES_SCHED_MODE_TIMESLICE;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesSchedulerGetTimesliceModeProperties(zes_handle_t scheduler, ze_bool_t defaults, zes_sched_timeslice_properties_t *out);
ZES_API zesSchedulerGetTimesliceModeProperties(zes_handle_t scheduler, ze_bool_t defaults, zes_sched_timeslice_properties_t *out)
{
    (void)defaults;
    ENTER(scheduler, ZES_SCHEDULER, out);
    out->interval = view.state->node.timeslice_ns / 1000;
    out->yieldTimeout = out->interval;
    LEAVE(ZE_RESULT_SUCCESS);
}

/* The node's time slice is the description's: nothing sets it, and the scheduler's properties say so. */
ZES_API zesSchedulerSetTimesliceMode(zes_handle_t scheduler, zes_sched_timeslice_properties_t *properties, ze_bool_t *reload);
ZES_API zesSchedulerSetTimesliceMode(zes_handle_t scheduler, zes_sched_timeslice_properties_t *properties, ze_bool_t *reload)
{
    ENTER(scheduler, ZES_SCHEDULER, properties && reload);
    LEAVE(ZE_RESULT_ERROR_UNSUPPORTED_FEATURE);
}

/* --- Sensors and power --------------------------------------------------------------------------------------------------------- */

ZES_API zesTemperatureGetProperties(zes_handle_t sensor, zes_temp_properties_t *out);
ZES_API zesTemperatureGetProperties(zes_handle_t sensor, zes_temp_properties_t *out)
{
    ENTER(sensor, ZES_TEMPERATURE, out);
    out->type = view.handle.part ? ZES_TEMP_SENSORS_MEMORY : ZES_TEMP_SENSORS_GPU;
    out->onSubdevice = 0;
    out->subdeviceId = 0;
    out->maxTemperature = MAX_TEMPERATURE_C;
    out->isCriticalTempSupported = out->isThreshold1Supported = out->isThreshold2Supported = 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesTemperatureGetState(zes_handle_t sensor, double *celsius);
ZES_API zesTemperatureGetState(zes_handle_t sensor, double *celsius)
{
    ENTER(sensor, ZES_TEMPERATURE, celsius);
    *celsius = sim_device_temperature_c(view.state, view.handle.device);
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesPowerGetProperties(zes_handle_t power, zes_power_properties_t *out);
ZES_API zesPowerGetProperties(zes_handle_t power, zes_power_properties_t *out)
{
    ENTER(power, ZES_POWER, out);
    out->onSubdevice = out->canControl = out->isEnergyThresholdSupported = 0;
    out->subdeviceId = 0;
    out->defaultLimit = out->maxLimit = (int32_t)view.description->power_limit_mw;
    out->minLimit = -1;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesPowerGetEnergyCounter(zes_handle_t power, zes_power_energy_counter_t *out);
ZES_API zesPowerGetEnergyCounter(zes_handle_t power, zes_power_energy_counter_t *out)
{
    ENTER(power, ZES_POWER, out);
    uint64_t limit_mw = view.description->power_limit_mw, idle_mw = limit_mw / IDLE_PART;
    out->timestamp = zes_now_us();
    out->energy = out->timestamp * idle_mw / 1000 + busy_us(&view) * (limit_mw - idle_mw) / 1000;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesPowerGetLimits(zes_handle_t power, zes_power_sustained_limit_t *sustained, void *burst, void *peak);
ZES_API zesPowerGetLimits(zes_handle_t power, zes_power_sustained_limit_t *sustained, void *burst, void *peak)
{
    ENTER(power, ZES_POWER, !burst && !peak);
    if (sustained)
        *sustained = (zes_power_sustained_limit_t){1, (int32_t)view.description->power_limit_mw, -1};
    LEAVE(ZE_RESULT_SUCCESS);
}

/* --- Errors -------------------------------------------------------------------------------------------------------------------- */

static uint64_t errors(const struct zes_view *view)
{
    return view->handle.part ? view->device->health.ecc_uncorrected : view->device->health.ecc_corrected;
}

ZES_API zesRasGetProperties(zes_handle_t set, zes_ras_properties_t *out);
ZES_API zesRasGetProperties(zes_handle_t set, zes_ras_properties_t *out)
{
    ENTER(set, ZES_RAS, out);
    out->type = view.handle.part;
    out->onSubdevice = 0;
    out->subdeviceId = 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

/* Counters are cleared by no one: they are what was asked for. */
ZES_API zesRasGetState(zes_handle_t set, ze_bool_t clear, zes_ras_state_t *out);
ZES_API zesRasGetState(zes_handle_t set, ze_bool_t clear, zes_ras_state_t *out)
{
    (void)clear;
    ENTER(set, ZES_RAS, out);
    for (int i = 0; i < ZES_RAS_CATEGORIES; i++)
        out->category[i] = i == ZES_RAS_ERROR_CAT_CACHE_ERRORS ? errors(&view) : 0;
    LEAVE(ZE_RESULT_SUCCESS);
}

ZES_API zesRasGetStateExp(zes_handle_t set, uint32_t *count, zes_ras_state_exp_t *out);
ZES_API zesRasGetStateExp(zes_handle_t set, uint32_t *count, zes_ras_state_exp_t *out)
{
    ENTER(set, ZES_RAS, count);
    if (out && *count)
        *out = (zes_ras_state_exp_t){ZES_RAS_ERROR_CATEGORY_EXP_MEMORY_ERRORS, errors(&view)};
    *count = 1;
    LEAVE(ZE_RESULT_SUCCESS);
}
