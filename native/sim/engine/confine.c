/* SPDX-License-Identifier: Apache-2.0
 *
 * Places on Intel's devices by the names that mica gives them: a tile is `UUID.N`, a virtual function its PCI address.
 *
 * Tiles are always there. A device is laid out in them while programs confine themselves to one each, and is whole again for the
 * next program that uses all of it: nothing is switched for that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define TILES "tiles"

static int find_start(const struct sim_state *state, int device, const char *prefix, unsigned start)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *instance = &state->devices[device].instances[i];
        const char *layout = state->node.devices[device].profiles[instance->profile].layout;
        if (instance->live && instance->start == start && !strncmp(layout, prefix, strlen(prefix)))
            return i;
    }
    return -ENODEV;
}

static int find_tile(struct sim_state *state, int device, const char *name)
{
    size_t length = strlen(state->node.devices[device].uuid);
    char *end;
    if (strncmp(name, state->node.devices[device].uuid, length) || name[length] != '.')
        return -ENODEV;
    unsigned long tile = strtoul(name + length + 1, &end, 10);
    if (end == name + length + 1 || *end)
        return -ENODEV;
    int result = sim_layout_set(state, device, TILES);
    return result ? result : find_start(state, device, TILES, (unsigned)tile);
}

static int find_function(const struct sim_state *state, int device, const char *name)
{
    const struct sim_description *description = &state->node.devices[device];
    unsigned domain, bus, place, function, first = description->pci_device << 3;
    if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &place, &function) != 4 || domain != description->pci_domain || bus != description->pci_bus)
        return -ENODEV;
    place = place << 3 | function;
    return place > first ? find_start(state, device, "vf", place - first - 1) : -ENODEV;
}

int sim_confine(struct sim_state *state, const char *name, struct sim_place *place)
{
    for (int d = 0; d < (int)state->node.device_count; d++) {
        if (strcmp(state->node.devices[d].vendor, "intel"))
            continue;
        int found = find_tile(state, d, name);
        if (found == -ENODEV)
            found = find_function(state, d, name);
        if (found == -ENODEV)
            continue;
        *place = (struct sim_place){d, found, 0};
        return found < 0 ? found : 0;
    }
    return -ENODEV;
}

void sim_unconfine(struct sim_state *state, const char *uuid)
{
    for (int d = 0; d < (int)state->node.device_count; d++)
        if (!strcmp(state->node.devices[d].uuid, uuid) && !strcmp(sim_layout_of(state, d), TILES))
            sim_layout_set(state, d, "");
}
