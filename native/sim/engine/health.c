/* SPDX-License-Identifier: Apache-2.0
 *
 * How well devices are: faults that were asked for, and the events that vendors' libraries tell of.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "engine.h"

int sim_device_reach(int device)
{
    const volatile struct sim_health *health = &sim_shared()->devices[device].health;
    uint32_t hang_ms = health->hang_ms;
    if (hang_ms) {
        struct timespec rest = {.tv_sec = hang_ms / 1000, .tv_nsec = hang_ms % 1000 * 1000000L};
        while (nanosleep(&rest, &rest) && errno == EINTR)
            ;
    }
    return health->lost ? -ENODEV : 0;
}

void sim_finding_post(struct sim_state *state, int device, const char *kind, unsigned code)
{
    struct sim_finding *finding = &state->findings[(state->finding_count + 1) % SIM_FINDINGS_MAX];
    *finding = (struct sim_finding){.number = state->finding_count + 1, .at_ns = sim_now_ns(), .device = (uint32_t)device, .code = code};
    strncpy(finding->kind, kind, sizeof finding->kind - 1);
    SIM_STORE_ORDER();
    state->finding_count++;
}

bool sim_finding_next(const struct sim_state *state, uint64_t after, struct sim_finding *finding)
{
    if (after + SIM_FINDINGS_MAX <= state->finding_count)
        after = state->finding_count - SIM_FINDINGS_MAX + 1; /* what was missed is forgotten */
    if (after >= state->finding_count)
        return false;
    *finding = state->findings[(after + 1) % SIM_FINDINGS_MAX];
    return true;
}

unsigned sim_device_temperature_c(struct sim_state *state, int device)
{
    uint32_t set = state->devices[device].health.temperature_c;
    return set ? set : 32 + (unsigned)(40ULL * sim_device_busy_ppm(state, device, sim_now_ns()) / 1000000);
}
