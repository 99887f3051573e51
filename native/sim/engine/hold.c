/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions that live only as long as the process that made them (Qualcomm's derived devices).
 *
 * Invariant: a partition with a holder is there while the holder lives, and after that as long as somebody is inside. It does
 * not need the holder to say so: what a killed process held is found when the dead are swept.
 */
#include <errno.h>

#include "engine.h"

static bool may_start(const struct sim_profile *profile, unsigned start)
{
    for (unsigned i = 0; i < profile->start_count; i++)
        if (profile->starts[i] == start)
            return true;
    return false;
}

static struct sim_gpu_instance *first_from(struct sim_device *device, unsigned start)
{
    struct sim_gpu_instance *first = NULL;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_gpu_instance *each = &device->instances[i];
        if (each->live && each->start >= start && (!first || each->start < first->start))
            first = each;
    }
    return first;
}

/* Every partition moves down as far as it may, the lowest first, so that at no moment two overlap. */
static void move_together(struct sim_state *state, int device)
{
    unsigned end = 0;
    struct sim_gpu_instance *each;
    while ((each = first_from(&state->devices[device], end))) {
        const struct sim_profile *profile = &state->node.devices[device].profiles[each->profile];
        if (may_start(profile, end))
            each->start = end;
        end = each->start + profile->size;
    }
}

/* Whose the next partition of this process is: it is the holder's before it is live. */
static int32_t holding;

int32_t sim_holding(void)
{
    return holding;
}

int sim_hold(struct sim_state *state, int device, unsigned profile)
{
    sim_process_sweep(state);
    holding = sim_process_self() + 1;
    int made = sim_partition_create(state, device, profile, -1);
    if (made == -ENOSPC) {
        move_together(state, device);
        made = sim_partition_create(state, device, profile, -1);
    }
    holding = 0;
    return made;
}

void sim_hold_orphan(struct sim_state *state, int process)
{
    for (int d = 0; d < (int)state->node.device_count; d++)
        for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
            struct sim_gpu_instance *instance = &state->devices[d].instances[i];
            if (instance->live && instance->holder == process + 1)
                instance->holder = SIM_HOLDER_GONE;
        }
}

void sim_hold_sweep(struct sim_state *state)
{
    for (int d = 0; d < (int)state->node.device_count; d++)
        for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
            struct sim_gpu_instance *instance = &state->devices[d].instances[i];
            if (!instance->live || instance->holder != SIM_HOLDER_GONE || sim_mig_in_use(state, d, i, -1))
                continue;
            for (int c = 0; c < SIM_COMPUTE_MAX; c++)
                instance->compute[c].live = 0;
            SIM_STORE_ORDER();
            instance->live = 0;
        }
}
