/* SPDX-License-Identifier: Apache-2.0
 *
 * A process on a device or partition whose runtime is not simulated: it has a context and memory there, and computes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

/* A process that uses an Ascend chip or a vNPU has its device node open, here below the simulation's own dev/: there is no other
 * way to tell who is on which vNPU. Never closed. */
static void hold_node(struct sim_state *state, struct sim_place place)
{
    char directory[4096], path[4200];
    if (strcmp(state->node.devices[place.device].vendor, "huawei"))
        return;
    snprintf(directory, sizeof directory, "%.4000s/dev", sim_engine_directory());
    mkdir(directory, 0755);
    if (place.gpu_instance < 0)
        snprintf(path, sizeof path, "%s/davinci%u", directory, (sim_vnpu_number(state, place.device, 1) - SIM_VNPU_FIRST) / SIM_VNPU_STRIDE);
    else
        snprintf(path, sizeof path, "%s/vdavinci%u", directory,
                 sim_vnpu_number(state, place.device, state->devices[place.device].instances[place.gpu_instance].id));
    if (open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) < 0)
        fprintf(stderr, "mica simulated driver: %s: %s\n", path, strerror(errno));
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
    hold_node(sim_shared(), place);
    result = sim_account_retain(account);
    return result ? result : sim_vram_charge(account, bytes, (bytes + SIM_GRANULE - 1) / SIM_GRANULE * SIM_GRANULE);
}
