/* SPDX-License-Identifier: Apache-2.0
 *
 * The library as a whole: initialisation, what was found, handles.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amdsmi.h"

struct handle {
    unsigned char device, partition;
};

static int users;
static bool forgotten;
static struct handle sockets[SIM_DEVICES_MAX];
static struct handle processors[SIM_DEVICES_MAX][SIM_INSTANCES_MAX];
static unsigned found[SIM_DEVICES_MAX]; /* processors of each device, 0 for those of other vendors */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

bool smi_is_amd(const struct sim_state *state, int device)
{
    return !strcmp(state->node.devices[device].vendor, "amd");
}

static unsigned partitions(const struct sim_state *state, int device)
{
    unsigned count = 0;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        count += state->devices[device].instances[i].live;
    return count ? count : 1;
}

static bool look(void)
{
    bool any = false;
    struct sim_state *state = sim_enter();
    for (int d = 0; d < (int)state->node.device_count; d++) {
        found[d] = smi_is_amd(state, d) ? partitions(state, d) : 0;
        sockets[d] = (struct handle){(unsigned char)d, 0};
        for (unsigned p = 0; p < SIM_INSTANCES_MAX; p++)
            processors[d][p] = (struct handle){(unsigned char)d, (unsigned char)p};
        any = any || found[d];
    }
    sim_leave(state);
    forgotten = false;
    return any;
}

void smi_forget(void)
{
    forgotten = true;
}

static struct handle *socket_of(void *handle)
{
    for (int d = 0; d < SIM_DEVICES_MAX; d++)
        if (handle == &sockets[d] && found[d])
            return &sockets[d];
    return NULL;
}

static struct handle *processor_of(void *handle)
{
    for (int d = 0; d < SIM_DEVICES_MAX; d++)
        for (unsigned p = 0; p < found[d]; p++)
            if (handle == &processors[d][p])
                return &processors[d][p];
    return NULL;
}

int smi_device_of(void *handle)
{
    const struct handle *its = processor_of(handle);
    return its ? its->device : -1;
}

void *smi_first_processor(int device)
{
    return &processors[device][0];
}

/* The n-th partition in the order of its slots, or -1. */
static int nth_instance(const struct sim_device *device, unsigned n)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        unsigned before = 0;
        for (int other = 0; device->instances[i].live && other < SIM_INSTANCES_MAX; other++)
            before += device->instances[other].live && device->instances[other].start < device->instances[i].start;
        if (device->instances[i].live && before == n)
            return i;
    }
    return -1;
}

uint32_t smi_enter(void *handle, struct smi_view *view)
{
    if (!users || forgotten)
        return AMDSMI_STATUS_NOT_INIT;
    const struct handle *its = processor_of(handle);
    if (!its)
        return AMDSMI_STATUS_INVAL;
    if (sim_device_reach(its->device))
        return AMDSMI_STATUS_IO;
    *view = (struct smi_view){.index = its->device, .partition = its->partition};
    view->state = sim_enter();
    view->description = &view->state->node.devices[view->index];
    view->device = &view->state->devices[view->index];
    view->instance_index = nth_instance(view->device, view->partition);
    if (view->instance_index >= 0) {
        view->instance = &view->device->instances[view->instance_index];
        view->profile = &view->description->profiles[view->instance->profile];
    } else if (view->partition) {
        return smi_leave(view, AMDSMI_STATUS_NOT_FOUND);
    }
    return AMDSMI_STATUS_SUCCESS;
}

uint32_t smi_leave(struct smi_view *view, uint32_t status)
{
    sim_leave(view->state);
    return status;
}

uint32_t smi_status(int engine_result)
{
    switch (engine_result) {
    case 0:
        return AMDSMI_STATUS_SUCCESS;
    case -EBUSY:
        return AMDSMI_STATUS_BUSY;
    case -EINVAL:
    case -EXDEV:
        return AMDSMI_STATUS_SETTING_UNAVAILABLE;
    default:
        return AMDSMI_STATUS_API_FAILED;
    }
}

AMDSMI_API amdsmi_init(uint64_t flags)
{
    (void)flags;
    if (sim_engine_open())
        return AMDSMI_STATUS_DRIVER_NOT_LOADED;
    pthread_mutex_lock(&mutex);
    bool any = users && !forgotten ? true : look();
    users += any;
    pthread_mutex_unlock(&mutex);
    return any ? AMDSMI_STATUS_SUCCESS : AMDSMI_STATUS_DRIVER_NOT_LOADED;
}

AMDSMI_API amdsmi_shut_down(void)
{
    pthread_mutex_lock(&mutex);
    bool ours = users > 0;
    users -= ours;
    if (!users)
        smi_watch_nothing();
    pthread_mutex_unlock(&mutex);
    return ours ? AMDSMI_STATUS_SUCCESS : AMDSMI_STATUS_NOT_INIT;
}

AMDSMI_API amdsmi_get_lib_version(struct amdsmi_version_t *version)
{
    static char build[] = "simulated";
    if (!version)
        return AMDSMI_STATUS_INVAL;
    *version = (struct amdsmi_version_t){.major = 26, .minor = 0, .release = 2, .build = build};
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_socket_handles(uint32_t *count, void **handles)
{
    if (!users || forgotten)
        return AMDSMI_STATUS_NOT_INIT;
    if (!count)
        return AMDSMI_STATUS_INVAL;
    uint32_t all = 0;
    for (int d = 0; d < SIM_DEVICES_MAX; d++)
        if (found[d]) {
            if (handles && all < *count)
                handles[all] = &sockets[d];
            all++;
        }
    *count = all;
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_socket_info(void *socket, uint64_t length, char *name)
{
    const struct handle *its = socket_of(socket);
    if (!its || !name)
        return AMDSMI_STATUS_INVAL;
    const struct sim_description *device = &sim_node()->devices[its->device];
    snprintf(name, length, "%04x:%02x:%02x", device->pci_domain, device->pci_bus, device->pci_device);
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles)
{
    const struct handle *its = socket_of(socket);
    if (!its || !count)
        return AMDSMI_STATUS_INVAL;
    for (uint32_t p = 0; handles && p < found[its->device] && p < *count; p++)
        handles[p] = &processors[its->device][p];
    *count = found[its->device];
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_processor_type(void *handle, uint32_t *type)
{
    if (!type || !processor_of(handle))
        return AMDSMI_STATUS_INVAL;
    *type = AMDSMI_PROCESSOR_TYPE_AMD_GPU;
    return AMDSMI_STATUS_SUCCESS;
}

AMDSMI_API amdsmi_get_processor_handle_from_bdf(union amdsmi_bdf_t_ bdf, void **handle)
{
    if (!handle)
        return AMDSMI_STATUS_INVAL;
    for (int d = 0; d < SIM_DEVICES_MAX; d++)
        for (unsigned p = 0; p < found[d]; p++)
            if (smi_bdf(&sim_node()->devices[d], p).as_uint == bdf.as_uint) {
                *handle = &processors[d][p];
                return AMDSMI_STATUS_SUCCESS;
            }
    return AMDSMI_STATUS_NOT_FOUND;
}

/* --- What they are called ---------------------------------------------------------------------------------------------------- */

uint64_t smi_unique_id(const struct smi_view *view)
{
    const char *text = view->instance ? view->instance->compute[0].uuid : view->description->uuid;
    const char *at = strchr(text, '-');
    uint64_t id = 0;
    unsigned digits = 0;
    for (at = view->instance && at ? at + 1 : text; *at && digits < 16; at++)
        if (*at != '-') {
            char digit[2] = {*at, 0};
            id = id << 4 | strtoul(digit, NULL, 16);
            digits++;
        }
    return id;
}

uint64_t smi_hive(const struct sim_description *description)
{
    uint64_t hash = description->group[0] ? 0xcbf29ce484222325ULL : 0;
    for (const char *at = description->group; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001b3ULL;
    return hash;
}

unsigned smi_ordinal(const struct smi_view *view)
{
    unsigned ordinal = view->partition;
    for (int d = 0; d < view->index; d++)
        ordinal += smi_is_amd(view->state, d) ? partitions(view->state, d) : 0;
    return ordinal;
}

union amdsmi_bdf_t_ smi_bdf(const struct sim_description *description, unsigned partition)
{
    union amdsmi_bdf_t_ bdf = {.as_uint = 0};
    bdf.bdf.domain_number = description->pci_domain;
    bdf.bdf.bus_number = description->pci_bus & 0xff;
    bdf.bdf.device_number = description->pci_device & 0x1f;
    bdf.bdf.function_number = partition & 7;
    return bdf;
}

/* Kept since initialisation: nothing is asked of the device. */
AMDSMI_API amdsmi_get_gpu_device_bdf(void *handle, union amdsmi_bdf_t_ *bdf)
{
    const struct handle *its = processor_of(handle);
    if (!users || forgotten)
        return AMDSMI_STATUS_NOT_INIT;
    if (!its || !bdf)
        return AMDSMI_STATUS_INVAL;
    *bdf = smi_bdf(&sim_node()->devices[its->device], its->partition);
    return AMDSMI_STATUS_SUCCESS;
}

/* --- What exists and is not modelled ------------------------------------------------------------------------------------------- */

#define REFUSED_DEFINITION(symbol)                                                                                                         \
    AMDSMI_API symbol(void);                                                                                                               \
    AMDSMI_API symbol(void)                                                                                                                \
    {                                                                                                                                      \
        return AMDSMI_STATUS_NOT_SUPPORTED;                                                                                                \
    }
AMDSMI_REFUSED(REFUSED_DEFINITION)
