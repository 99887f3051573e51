/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device is and how it does: names, memory, utilisation, processes. Power and temperature follow utilisation.
 */
#include <stdio.h>
#include <string.h>

#include "nvml.h"

#define MIB (1ULL << 20)
#define NONE 0xffffffffu

static void mig_name(const struct nvml_view *view, char out[SIM_NAME_MAX])
{
    char part[16] = "";
    if (view->compute->compute_slices != view->profile->compute_slices)
        snprintf(part, sizeof part, "%uc.", view->compute->compute_slices);
    snprintf(out, SIM_NAME_MAX, "%.40s MIG %s%s", view->description->name, part, view->profile->name);
}

NVML_API nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length);
NVML_API nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    char text[SIM_NAME_MAX];
    ENTER(device, ANY_DEVICE, name);
    if (view.compute)
        mig_name(&view, text);
    LEAVE(nvml_text(name, length, view.compute ? text : view.description->name));
}

NVML_API nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length);
NVML_API nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    ENTER(device, ANY_DEVICE, uuid);
    LEAVE(nvml_text(uuid, length, view.compute ? view.compute->uuid : view.description->uuid));
}

NVML_API nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length);
NVML_API nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length)
{
    ENTER(device, ANY_DEVICE, serial);
    LEAVE(nvml_text(serial, length, view.description->serial));
}

#define GETTER(call, type, kinds, value)                                                                                                   \
    NVML_API call(nvmlDevice_t device, type *out);                                                                                         \
    NVML_API call(nvmlDevice_t device, type *out)                                                                                          \
    {                                                                                                                                      \
        ENTER(device, kinds, out);                                                                                                         \
        *out = (type)(value);                                                                                                              \
        LEAVE(NVML_SUCCESS);                                                                                                               \
    }

/* Cores of one multiprocessor, by compute capability. */
static unsigned cores(const struct sim_description *description)
{
    unsigned capability = description->capability_major * 10 + description->capability_minor;
    if (capability < 50)
        return 192;
    return capability == 60 || capability == 70 || capability == 75 || capability == 80 ? 64 : 128;
}

GETTER(nvmlDeviceGetIndex, unsigned, KIND(DEVICE), view.index)
GETTER(nvmlDeviceGetMinorNumber, unsigned, KIND(DEVICE), view.index)
GETTER(nvmlDeviceGetNumGpuCores, unsigned, KIND(DEVICE), view.description->multiprocessors * cores(view.description))
GETTER(nvmlDeviceGetMemoryBusWidth, unsigned, KIND(DEVICE), view.description->memory_bus_bits)
GETTER(nvmlDeviceGetComputeMode, unsigned, ANY_DEVICE, 0)
GETTER(nvmlDeviceGetPersistenceMode, unsigned, ANY_DEVICE, 1)
GETTER(nvmlDeviceGetBrand, unsigned, ANY_DEVICE, view.description->capability_major < 8 ? 2 : 14)
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned, KIND(DEVICE), view.description->power_limit_mw)
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned, KIND(DEVICE), view.description->power_limit_mw)
GETTER(nvmlDeviceGetPerformanceState, unsigned, KIND(DEVICE), 0)

NVML_API nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor);
NVML_API nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    ENTER(device, ANY_DEVICE, major && minor);
    *major = (int)view.description->capability_major;
    *minor = (int)view.description->capability_minor;
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci);
NVML_API nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    ENTER(device, ANY_DEVICE, pci);
    const struct sim_description *d = view.description;
    *pci = (nvmlPciInfo_t){"", d->pci_domain, d->pci_bus, d->pci_device, d->pci_device_id, d->pci_subsystem_id, ""};
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.0", d->pci_domain & 0xffff, d->pci_bus & 0xff, d->pci_device & 0x1f);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", d->pci_domain, d->pci_bus, d->pci_device);
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetPciInfo_v2, nvmlDeviceGetPciInfo_v3);
NVML_SAME(nvmlDeviceGetPciInfo, nvmlDeviceGetPciInfo_v3);

/* NUMA nodes as a bit set: those nearest to the device. */
NVML_API nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned words, unsigned long *set, unsigned scope);
NVML_API nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned words, unsigned long *set, unsigned scope)
{
    ENTER(device, ANY_DEVICE, set && words && scope <= 1);
    unsigned word = view.description->numa_node / (8 * sizeof *set);
    memset(set, 0, words * sizeof *set);
    if (word < words)
        set[word] = 1ul << view.description->numa_node % (8 * sizeof *set);
    LEAVE(NVML_SUCCESS);
}

/* --- Memory ------------------------------------------------------------------------------------------------------------------- */

static nvmlMemory_v2_t memory_of(const struct nvml_view *view)
{
    nvmlMemory_v2_t memory = {.version = NVML_MEMORY_V2};
    sim_process_sweep(view->state);
    if (view->instance) {
        memory.total = view->profile->memory_bytes;
        memory.used = view->instance->spent_bytes;
    } else {
        memory.total = view->description->vram_bytes;
        memory.reserved = view->description->reserve_bytes;
        memory.used = view->device->spent_bytes;
        for (int i = 0; i < SIM_INSTANCES_MAX; i++)
            memory.used += view->device->instances[i].live ? view->device->instances[i].spent_bytes : 0;
    }
    memory.free = memory.total - memory.reserved - memory.used;
    return memory;
}

NVML_API nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
NVML_API nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    ENTER(device, ANY_DEVICE, memory);
    nvmlMemory_v2_t now = memory_of(&view);
    *memory = (nvmlMemory_t){now.total, now.free, now.used + now.reserved}; /* the first form counts the reserve as used */
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory);
NVML_API nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    ENTER(device, ANY_DEVICE, memory);
    if (memory->version != NVML_MEMORY_V2)
        LEAVE(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    *memory = memory_of(&view);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory);
NVML_API nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    ENTER(device, ANY_DEVICE, memory);
    *memory = (nvmlMemory_t){view.description->bar1_bytes, view.description->bar1_bytes - MIB, MIB};
    LEAVE(NVML_SUCCESS);
}

/* --- Activity ------------------------------------------------------------------------------------------------------------------ */

static unsigned busy_ppm(const struct nvml_view *view)
{
    return sim_device_busy_ppm(view->state, view->index, sim_now_ns());
}

/* As the real library, none for a device in MIG mode: its engines are counted per instance. */
NVML_API nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization);
NVML_API nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization)
{
    ENTER(device, ANY_DEVICE, utilization);
    if (view.device->mig_enabled)
        LEAVE(NVML_ERROR_NOT_SUPPORTED);
    unsigned percent = (busy_ppm(&view) + 5000) / 10000;
    *utilization = (nvmlUtilization_t){percent, percent / 2};
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts);
NVML_API nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts)
{
    ENTER(device, KIND(DEVICE), milliwatts);
    uint64_t idle = view.description->power_limit_mw / 7, range = view.description->power_limit_mw * 9ULL / 10 - idle;
    *milliwatts = (unsigned)(idle + range * busy_ppm(&view) / 1000000);
    LEAVE(NVML_SUCCESS);
}

NVML_API nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius);
NVML_API nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius)
{
    ENTER(device, KIND(DEVICE), celsius && sensor == 0);
    *celsius = sim_device_temperature_c(view.state, view.index);
    LEAVE(NVML_SUCCESS);
}

/* Clocks: 0 graphics, 1 SM, 2 memory, 3 video. */
NVML_API nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned clock, unsigned *mhz);
NVML_API nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned clock, unsigned *mhz)
{
    ENTER(device, ANY_DEVICE, mhz && clock <= 3);
    *mhz = (clock == 2 ? view.description->memory_clock_khz : view.description->clock_khz) / 1000;
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetMaxClockInfo, nvmlDeviceGetClockInfo);

/* --- Processes ------------------------------------------------------------------------------------------------------------------ */

static nvmlProcessInfo_v2_t describe(const struct sim_state *state, int process, const struct sim_account *account, unsigned pid)
{
    struct sim_paid paid = sim_share_paid(state, process, account);
    nvmlProcessInfo_v2_t info = {pid, account->granule_bytes + paid.granule_bytes + account->context_bytes, NONE, NONE};
    if (account->gpu_instance >= 0) {
        const struct sim_gpu_instance *instance = &state->devices[account->device].instances[account->gpu_instance];
        info.gpu_instance = instance->id;
        info.compute_instance = instance->compute[account->compute_instance].id;
    }
    return info;
}

static bool here(const struct nvml_view *view, const struct sim_account *account)
{
    return account->live && account->contexts && account->device == view->index &&
           (!view->instance || account->gpu_instance == view->instance_index) &&
           (!view->compute || account->compute_instance == view->compute_index);
}

/* Processes with a context here whose pid the caller can see. Returns how many there are; `limit` of them are stored. */
static unsigned list(const struct nvml_view *view, nvmlProcessInfo_v2_t *infos, unsigned limit)
{
    unsigned count = 0;
    sim_process_sweep(view->state);
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        const struct sim_process *process = &view->state->processes[p];
        int pid = 0;
        if (process->state != SIM_PROCESS_LIVE)
            continue;
        for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
            if (!here(view, &process->accounts[a]) || !(pid = pid ? pid : sim_process_pid(view->state, p)))
                continue;
            if (count < limit)
                infos[count] = describe(view->state, p, &process->accounts[a], (unsigned)pid);
            count++;
        }
    }
    return count;
}

NVML_API nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_v2_t *infos);
NVML_API nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_v2_t *infos)
{
    ENTER(device, ANY_DEVICE, count && (infos || !*count));
    unsigned limit = *count;
    *count = list(&view, infos, limit);
    LEAVE(*count > limit ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetComputeRunningProcesses_v2, nvmlDeviceGetComputeRunningProcesses_v3);

NVML_API nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_v1_t *infos);
NVML_API nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_v1_t *infos)
{
    static _Thread_local nvmlProcessInfo_v2_t found[SIM_PROCESSES_MAX];
    ENTER(device, ANY_DEVICE, count && (infos || !*count));
    unsigned limit = *count < SIM_PROCESSES_MAX ? *count : SIM_PROCESSES_MAX;
    *count = list(&view, found, limit);
    for (unsigned i = 0; i < *count && i < limit; i++)
        infos[i] = (nvmlProcessInfo_v1_t){found[i].pid, found[i].used};
    LEAVE(*count > limit ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

NVML_API nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count, void *infos);
NVML_API nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count, void *infos)
{
    (void)infos;
    ENTER(device, ANY_DEVICE, count);
    *count = 0;
    LEAVE(NVML_SUCCESS);
}
NVML_SAME(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlDeviceGetGraphicsRunningProcesses_v3);
NVML_SAME(nvmlDeviceGetGraphicsRunningProcesses, nvmlDeviceGetGraphicsRunningProcesses_v3);
