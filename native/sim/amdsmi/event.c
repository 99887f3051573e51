/* SPDX-License-Identifier: Apache-2.0
 *
 * Event notification: what happened to the devices for which this process asked to be told.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "amdsmi.h"

#define POLL_NS 2000000L

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool wanted[SIM_DEVICES_MAX];
static uint64_t masks[SIM_DEVICES_MAX];
static uint64_t told; /* number of the last finding that was looked at */

static const struct {
    const char *kind;
    uint32_t event;
} events[] = {
    {"vm_fault", AMDSMI_EVT_NOTIF_VMFAULT},
    {"throttle", AMDSMI_EVT_NOTIF_THERMAL_THROTTLE},
    {"pre_reset", AMDSMI_EVT_NOTIF_GPU_PRE_RESET},
    {"post_reset", AMDSMI_EVT_NOTIF_GPU_POST_RESET},
};

static uint32_t event_of(const char *kind)
{
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (!strcmp(events[i].kind, kind))
            return events[i].event;
    return AMDSMI_EVT_NOTIF_NONE;
}

AMDSMI_API amdsmi_init_gpu_event_notification(void *handle)
{
    ENTER(handle, true);
    pthread_mutex_lock(&mutex);
    bool first = true;
    for (int d = 0; d < SIM_DEVICES_MAX; d++)
        first = first && !wanted[d];
    if (first)
        told = view.state->finding_count;
    wanted[view.index] = true;
    masks[view.index] = 0;
    pthread_mutex_unlock(&mutex);
    LEAVE(AMDSMI_STATUS_SUCCESS);
}

AMDSMI_API amdsmi_set_gpu_event_notification_mask(void *handle, uint64_t mask)
{
    ENTER(handle, true);
    pthread_mutex_lock(&mutex);
    uint32_t status = wanted[view.index] ? AMDSMI_STATUS_SUCCESS : AMDSMI_STATUS_INIT_ERROR;
    masks[view.index] = mask;
    pthread_mutex_unlock(&mutex);
    LEAVE(status);
}

AMDSMI_API amdsmi_stop_gpu_event_notification(void *handle)
{
    int device = smi_device_of(handle);
    if (device < 0)
        return AMDSMI_STATUS_INVAL;
    pthread_mutex_lock(&mutex);
    wanted[device] = false;
    pthread_mutex_unlock(&mutex);
    return AMDSMI_STATUS_SUCCESS;
}

void smi_watch_nothing(void)
{
    pthread_mutex_lock(&mutex);
    memset(wanted, 0, sizeof wanted);
    pthread_mutex_unlock(&mutex);
}

static uint32_t take(struct amdsmi_evt_notification_data_t *data, uint32_t limit)
{
    uint32_t count = 0;
    struct sim_finding finding;
    struct sim_state *state = sim_enter();
    pthread_mutex_lock(&mutex);
    while (count < limit && sim_finding_next(state, told, &finding)) {
        uint32_t event = event_of(finding.kind);
        told = finding.number;
        if (!event || finding.device >= SIM_DEVICES_MAX || !wanted[finding.device] || !(masks[finding.device] >> (event - 1) & 1))
            continue;
        memset(&data[count], 0, sizeof data[count]);
        data[count].processor_handle = smi_first_processor((int)finding.device);
        data[count].event = event;
        snprintf(data[count].message, sizeof data[count].message, "%s %x", finding.kind, finding.code);
        count++;
    }
    pthread_mutex_unlock(&mutex);
    sim_leave(state);
    return count;
}

AMDSMI_API amdsmi_get_gpu_event_notification(int32_t timeout_ms, uint32_t *count, struct amdsmi_evt_notification_data_t *data)
{
    if (!count || !data || !*count)
        return AMDSMI_STATUS_INVAL;
    if (sim_engine_open())
        return AMDSMI_STATUS_NOT_INIT;
    uint64_t until = sim_now_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0);
    uint32_t found = take(data, *count);
    while (!found && sim_now_ns() < until) {
        struct timespec rest = {.tv_nsec = POLL_NS};
        nanosleep(&rest, NULL);
        found = take(data, *count);
    }
    *count = found;
    return found ? AMDSMI_STATUS_SUCCESS : AMDSMI_STATUS_NO_DATA;
}
