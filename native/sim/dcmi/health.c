/* SPDX-License-Identifier: Apache-2.0
 *
 * How well a chip is: error codes that last, and events that are told once to each process. `event DEVICE dcmi CODE` of the control
 * posts one. Codes and their meaning: Huawei's "Health Management Error Definition".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dcmi.h"

#define HBM_MULTI_BIT 0x80E01801u
#define FILTER_ID 1u
#define FILTER_SEVERITY 2u
#define TIME_OUT (-8006)
#define LOOK_AGAIN_NS 10000000L

static const struct {
    unsigned code;
    enum dcmi_severity severity;
    const char *text;
} codes[] = {
    {HBM_MULTI_BIT, DCMI_SEVERITY_MAJOR, "node type=HBM, event state=multi-bit ECC error"},
    {0x80E01809u, DCMI_SEVERITY_MINOR, "node type=HBM, event state=multi-bit ECC error while scrubbing"},
    {0x80C98000u, DCMI_SEVERITY_MAJOR, "node type=AI Core, event state=instruction data do not verify"},
    {0x80E18402u, DCMI_SEVERITY_CRITICAL, "node type=HBM, event state=no row left for repair"},
};

static uint64_t told[SIM_DEVICES_MAX];

static const char *text_of(unsigned code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code)
            return codes[i].text;
    return "node type=SOC, event state=unknown";
}

static enum dcmi_severity severity_of(unsigned code)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code)
            return codes[i].severity;
    return DCMI_SEVERITY_MINOR;
}

DCMI_API dcmi_get_device_health(int card, int device, unsigned *health);
DCMI_API dcmi_get_device_health(int card, int device, unsigned *health)
{
    ENTER(card, device, health);
    *health = view.device->health.ecc_uncorrected ? severity_of(HBM_MULTI_BIT) : DCMI_SEVERITY_OK;
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_errorcode_v2(int card, int device, int *count, unsigned *list, unsigned length);
DCMI_API dcmi_get_device_errorcode_v2(int card, int device, int *count, unsigned *list, unsigned length)
{
    ENTER(card, device, count && list && length);
    *count = view.device->health.ecc_uncorrected ? 1 : 0;
    if (*count)
        list[0] = HBM_MULTI_BIT;
    LEAVE(DCMI_OK);
}

DCMI_API dcmi_get_device_errorcode_string(int card, int device, unsigned code, unsigned char *text, int length);
DCMI_API dcmi_get_device_errorcode_string(int card, int device, unsigned code, unsigned char *text, int length)
{
    ENTER(card, device, text && length > 0);
    snprintf((char *)text, (size_t)length, "%s", text_of(code));
    LEAVE(DCMI_OK);
}

static bool wanted(const struct dcmi_event_filter *filter, unsigned code)
{
    return !(filter->filter_flag & FILTER_ID && filter->event_id != code) &&
           !(filter->filter_flag & FILTER_SEVERITY && filter->severity > severity_of(code));
}

/* The next event of the card that this process was not told of. */
static bool take(int card, const struct dcmi_event_filter *filter, struct dcmi_event *event)
{
    struct sim_finding finding;
    struct sim_state *state = sim_enter();
    bool found = false;
    while (!found && sim_finding_next(state, told[card], &finding)) {
        told[card] = finding.number;
        found = (int)finding.device == npu_index(card) && !strcmp(finding.kind, "dcmi") && wanted(filter, finding.code);
    }
    sim_leave(state);
    if (!found)
        return false;
    *event = (struct dcmi_event){.dms_event = {.event_id = finding.code,
                                               .deviceid = (unsigned short)card,
                                               .severity = (unsigned char)severity_of(finding.code),
                                               .assertion = 2,
                                               .event_serial_num = (int)finding.number,
                                               .alarm_raised_time = (unsigned long long)time(NULL)}};
    snprintf(event->dms_event.event_name, sizeof event->dms_event.event_name, "%s", text_of(finding.code));
    return true;
}

/* Waits for at most `timeout_ms`; -1: for ever. */
DCMI_API dcmi_get_fault_event(int card, int device, int timeout_ms, struct dcmi_event_filter filter, struct dcmi_event *event);
DCMI_API dcmi_get_fault_event(int card, int device, int timeout_ms, struct dcmi_event_filter filter, struct dcmi_event *event)
{
    struct npu_view view;
    int result = event && timeout_ms >= -1 ? npu_enter(card, device, &view) : DCMI_INVALID_PARAMETER;
    if (result)
        return result;
    sim_leave(view.state);
    uint64_t until_ns = sim_now_ns() + (uint64_t)timeout_ms * 1000000;
    while (!take(card, &filter, event)) {
        struct timespec rest = {.tv_nsec = LOOK_AGAIN_NS};
        if (timeout_ms >= 0 && sim_now_ns() >= until_ns)
            return TIME_OUT;
        nanosleep(&rest, NULL);
    }
    return DCMI_OK;
}
