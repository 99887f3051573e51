/* SPDX-License-Identifier: Apache-2.0
 *
 * Layouts: partitions that come and go together, as AMD's compute partitions and Intel's virtual functions do.
 *
 * Invariant: a device with a layout has every partition of it and no other. Partitioned devices of one group share what
 * their layouts say they do (AMD's memory mode holds for the whole hive). A layout of one partition over all slots (AMD's SPX)
 * is that of a device used whole, and no layout.
 */
#include <errno.h>
#include <string.h>

#include "engine.h"

const char *sim_layout_of(const struct sim_state *state, int device)
{
    uint32_t layout = state->devices[device].layout;
    return layout ? state->node.devices[device].profiles[layout - 1].layout : "";
}

static int find_layout(const struct sim_description *description, const char *layout)
{
    for (unsigned p = 0; p < description->profile_count; p++)
        if (!strcmp(description->profiles[p].layout, layout))
            return (int)p;
    return -EINVAL;
}

static void clear(struct sim_state *state, int device)
{
    for (unsigned i = 0; i < SIM_INSTANCES_MAX; i++)
        if (state->devices[device].instances[i].live)
            sim_partition_destroy(state, device, i);
    state->devices[device].layout = 0;
}

static int lay_out(struct sim_state *state, int device, unsigned first)
{
    const struct sim_description *description = &state->node.devices[device];
    for (unsigned p = first; p < description->profile_count; p++)
        for (unsigned i = 0; !strcmp(description->profiles[p].layout, description->profiles[first].layout) && i < description->profiles[p].start_count; i++) {
            int made = sim_partition_create(state, device, p, (int)description->profiles[p].starts[i]);
            if (made < 0) {
                clear(state, device);
                return made;
            }
        }
    state->devices[device].layout = first + 1;
    return 0;
}

int sim_layout_set(struct sim_state *state, int device, const char *layout)
{
    int first = *layout ? find_layout(&state->node.devices[device], layout) : 0;
    if (first < 0)
        return first;
    if (*layout && state->node.devices[device].profiles[first].size == state->node.devices[device].memory_slots)
        layout = "";
    if (!strcmp(sim_layout_of(state, device), layout))
        return 0;
    sim_process_sweep(state);
    bool others = sim_partitioned(state, device) && !state->devices[device].layout;
    if (sim_mig_in_use(state, device, -1, -1) || others)
        return -EBUSY;
    if (*layout && !sim_group_agrees(state, device, &state->node.devices[device].profiles[first]))
        return -EXDEV;
    clear(state, device);
    return *layout ? lay_out(state, device, (unsigned)first) : 0;
}

static bool together(const struct sim_node *node, int a, int b)
{
    return a == b || (node->devices[a].group[0] && !strcmp(node->devices[a].group, node->devices[b].group));
}

int sim_group_layout_set(struct sim_state *state, int device, const char *layout)
{
    int count = (int)state->node.device_count, result = 0;
    sim_process_sweep(state);
    for (int d = 0; d < count; d++)
        if (together(&state->node, d, device) && sim_mig_in_use(state, d, -1, -1))
            return -EBUSY;
    for (int d = 0; d < count; d++)
        if (together(&state->node, d, device))
            clear(state, d);
    for (int d = 0; !result && d < count; d++)
        if (together(&state->node, d, device))
            result = sim_layout_set(state, d, layout);
    return result;
}

int sim_node_reboot(struct sim_state *state)
{
    sim_process_sweep(state);
    for (int d = 0; d < (int)state->node.device_count; d++)
        if (sim_mig_in_use(state, d, -1, -1))
            return -EBUSY;
    for (int d = 0; d < (int)state->node.device_count; d++) {
        if (strcmp(state->node.devices[d].vendor, "huawei")) /* an Ascend server makes its vNPUs again (vnpu-cfg-recover) */
            clear(state, d);
        memset(&state->devices[d].health, 0, sizeof state->devices[d].health);
        state->devices[d].mig_enabled = state->devices[d].mig_pending;
    }
    for (int d = 0; d < (int)state->node.device_count; d++)
        sim_layout_set(state, d, state->node.devices[d].layout);
    state->boots++;
    return 0;
}
