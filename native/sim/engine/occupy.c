/* SPDX-License-Identifier: Apache-2.0
 *
 * A process on a device or partition whose runtime is not simulated: it has a context and memory there, and computes nothing.
 */
#include <errno.h>
#include <string.h>

#include "engine.h"

static int find_place(struct sim_state *state, const char *uuid, struct sim_place *place)
{
    sim_unconfine(state, uuid);
    for (int d = 0; d < (int)state->node.device_count; d++) {
        *place = (struct sim_place){d, -1, -1};
        if (!strcmp(state->node.devices[d].uuid, uuid))
            return state->devices[d].mig_enabled || sim_partitioned(state, d) ? -EBUSY : 0;
        for (int g = 0; g < SIM_INSTANCES_MAX; g++)
            for (int c = 0; state->devices[d].instances[g].live && c < SIM_COMPUTE_MAX; c++)
                if (state->devices[d].instances[g].compute[c].live && !strcmp(state->devices[d].instances[g].compute[c].uuid, uuid)) {
                    *place = (struct sim_place){d, g, c};
                    return 0;
                }
    }
    return sim_confine(state, uuid, place);
}

int sim_occupy(const char *uuid, uint64_t bytes)
{
    struct sim_place place;
    struct sim_state *state = sim_enter();
    int result = find_place(state, uuid, &place);
    sim_leave(state);
    if (!result && sim_process_self() < 0)
        result = sim_process_register((struct sim_client){0});
    int account = result < 0 ? result : sim_account_open(place);
    if (account < 0)
        return account;
    result = sim_account_retain(account);
    return result ? result : sim_vram_charge(account, bytes, (bytes + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE);
}
