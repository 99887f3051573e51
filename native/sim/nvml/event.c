/* SPDX-License-Identifier: Apache-2.0
 *
 * Event sets: each process has its own and hears of what happens after it made them.
 *
 * Invariant: a set is looked at and changed with the engine entered only, and nobody sleeps there.
 */
#include <string.h>
#include <time.h>

#include "nvml.h"

#define SETS_MAX 128
#define NONE 0xffffffffu
#define POLL_NS 5000000L

#define EVENT_ECC_CORRECTED 0x1ull
#define EVENT_ECC_UNCORRECTED 0x2ull
#define EVENT_XID 0x8ull
#define EVENTS_SUPPORTED (EVENT_ECC_CORRECTED | EVENT_ECC_UNCORRECTED | EVENT_XID)

struct nvml_event_set {
    bool taken;
    uint64_t after; /* number of the last finding looked at */
    unsigned long long types[SIM_DEVICES_MAX];
};

static struct nvml_event_set sets[SETS_MAX];

static bool known(const struct nvml_event_set *set)
{
    uintptr_t offset = (uintptr_t)set - (uintptr_t)sets;
    return (uintptr_t)set >= (uintptr_t)sets && offset < sizeof sets && offset % sizeof *sets == 0 && set->taken;
}

static unsigned long long type_of(const struct sim_finding *finding)
{
    static const struct {
        const char *kind;
        unsigned long long type;
    } types[] = {{"xid", EVENT_XID}, {"ecc_corrected", EVENT_ECC_CORRECTED}, {"ecc_uncorrected", EVENT_ECC_UNCORRECTED}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].kind, finding->kind))
            return types[i].type;
    return 0;
}

NVML_API nvmlEventSetCreate(nvmlEventSet_t *set);
NVML_API nvmlEventSetCreate(nvmlEventSet_t *set)
{
    if (!set || nvml_initialized() != NVML_SUCCESS)
        return set ? NVML_ERROR_UNINITIALIZED : NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = NVML_ERROR_MEMORY;
    struct sim_state *state = sim_enter();
    for (int i = 0; i < SETS_MAX && result != NVML_SUCCESS; i++)
        if (!sets[i].taken) {
            sets[i] = (struct nvml_event_set){.taken = true, .after = state->finding_count};
            *set = &sets[i];
            result = NVML_SUCCESS;
        }
    sim_leave(state);
    return result;
}

NVML_API nvmlEventSetFree(nvmlEventSet_t set);
NVML_API nvmlEventSetFree(nvmlEventSet_t set)
{
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    struct sim_state *state = sim_enter();
    bool found = known(set);
    if (found)
        set->taken = false;
    sim_leave(state);
    return found ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types);
NVML_API nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    ENTER(device, KIND(DEVICE), types);
    *types = EVENTS_SUPPORTED;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set);
NVML_API nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    ENTER(device, KIND(DEVICE), true);
    if (!known(set))
        LEAVE(NVML_ERROR_INVALID_ARGUMENT);
    if (types & ~EVENTS_SUPPORTED)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    set->types[view.index] |= types;
    LEAVE(NVML_SUCCESS);
}

/* The next event of the set that already happened, with the engine entered. */
static bool take(const struct sim_state *state, struct nvml_event_set *set, nvmlEventData_t *data)
{
    struct sim_finding finding;
    while (sim_finding_next(state, set->after, &finding)) {
        set->after = finding.number;
        if (finding.device >= SIM_DEVICES_MAX || !(set->types[finding.device] & type_of(&finding)))
            continue;
        *data = (nvmlEventData_t){nvml_device_handle((int)finding.device), type_of(&finding), finding.code, NONE, NONE};
        return true;
    }
    return false;
}

/* What the devices of the set have to say before anything can be heard of them. */
static nvmlReturn_t reach(const struct nvml_event_set *set)
{
    nvmlReturn_t result = NVML_SUCCESS;
    for (int d = 0; d < (int)sim_node()->nvidia_count; d++)
        if (set->types[d] && sim_device_reach(d))
            result = NVML_ERROR_GPU_IS_LOST;
    return result;
}

NVML_API nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms);
NVML_API nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms)
{
    uint64_t deadline_ns = sim_now_ns() + timeout_ms * 1000000ull;
    if (nvml_initialized() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (!data || !known(set))
        return NVML_ERROR_INVALID_ARGUMENT;
    for (;;) {
        nvmlReturn_t reached = reach(set);
        struct sim_state *state = sim_enter();
        bool valid = known(set), found = valid && take(state, set, data);
        sim_leave(state);
        if (found || !valid)
            return found ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
        if (reached != NVML_SUCCESS || sim_now_ns() >= deadline_ns)
            return reached != NVML_SUCCESS ? reached : NVML_ERROR_TIMEOUT;
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}
