/* SPDX-License-Identifier: Apache-2.0
 *
 * How well a device is, through NVML: thresholds, slowed clocks, memory errors. Its faults are the engine's (sim_health).
 */
#include <string.h>

#include "nvml.h"

#define SHUTDOWN_C 95
#define SLOWDOWN_C 90
#define MEMORY_MAX_C 95
#define OPERATING_MAX_C 85

#define REASON_SW_THERMAL 0x20u
#define REASON_HW_THERMAL 0x40u
#define REASONS_ALL 0x1ffu

static bool has_ecc(const struct nvml_view *view)
{
    return !strstr(view->description->name, "GeForce");
}

/* Kinds: 0 shutdown, 1 slowdown, 2 the memory's highest, 3 the highest in operation. */
NVML_API nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned kind, unsigned *celsius);
NVML_API nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned kind, unsigned *celsius)
{
    static const unsigned thresholds[] = {SHUTDOWN_C, SLOWDOWN_C, MEMORY_MAX_C, OPERATING_MAX_C};
    ENTER(device, KIND(DEVICE), celsius);
    if (kind >= sizeof thresholds / sizeof *thresholds)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *celsius = thresholds[kind];
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons);
NVML_API nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons)
{
    ENTER(device, KIND(DEVICE), reasons);
    unsigned celsius = sim_device_temperature_c(view.state, view.index);
    *reasons = view.device->health.clock_reasons | (celsius >= SLOWDOWN_C ? REASON_SW_THERMAL | REASON_HW_THERMAL : 0);
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetCurrentClocksThrottleReasons, nvmlDeviceGetCurrentClocksEventReasons);

NVML_API nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons);
NVML_API nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons)
{
    ENTER(device, KIND(DEVICE), reasons);
    *reasons = REASONS_ALL;
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetSupportedClocksThrottleReasons, nvmlDeviceGetSupportedClocksEventReasons);

NVML_API nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *current, unsigned *pending);
NVML_API nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    ENTER(device, KIND(DEVICE), current && pending);
    if (!has_ecc(&view))
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *current = *pending = 1;
    LEAVE(NVML_SUCCESS);
}

/* Kinds: 0 corrected, 1 uncorrected. Counters: 0 since the last reset, 1 ever, which is not told apart here. */
NVML_API nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned kind, unsigned counter, unsigned long long *count);
NVML_API nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned kind, unsigned counter, unsigned long long *count)
{
    ENTER(device, ANY_DEVICE, count && kind <= 1 && counter <= 1);
    if (!has_ecc(&view))
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *count = kind ? view.device->health.ecc_uncorrected : view.device->health.ecc_corrected;
    LEAVE(NVML_SUCCESS);
}

/* Ampere and later; older ones retire pages. */
NVML_API nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed);
NVML_API nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    ENTER(device, KIND(DEVICE), corrected && uncorrected && pending && failed);
    if (view.description->capability_major < 8 || !has_ecc(&view))
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    *corrected = 0;
    *pending = view.device->health.remap_pending != 0;
    *failed = view.device->health.remap_failed != 0;
    *uncorrected = *pending + *failed;
    LEAVE(NVML_SUCCESS);
}
