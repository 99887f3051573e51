/* SPDX-License-Identifier: Apache-2.0
 *
 * Which devices this process sees: CUDA_VISIBLE_DEVICES against the node, in PCI order, decided once at cuInit.
 *
 * As in the real driver, an entry that means nothing ends the list, and at most one MIG instance is ever visible: it is
 * then device 0 and the only one. A device in MIG mode stands for its first compute instance, or for nothing.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "driver.h"

static struct sim_visible visible[SIM_DEVICES_MAX];
static int visible_count;

static CUuuid parse_uuid(const char *text)
{
    CUuuid uuid = {{0}};
    unsigned digits = 0;
    for (const char *at = strchr(text, '-'); at && *at && digits < 32; at++)
        if (isxdigit((unsigned char)*at)) {
            char digit[2] = {*at, 0};
            uuid.bytes[digits / 2] = (unsigned char)(uuid.bytes[digits / 2] << 4 | strtoul(digit, NULL, 16));
            digits++;
        }
    return uuid;
}

static bool add(const struct sim_state *state, struct sim_place place)
{
    for (int i = 0; i < visible_count; i++)
        if (!memcmp(&visible[i].place, &place, sizeof place))
            return false;
    struct sim_visible *device = &visible[visible_count++];
    const struct sim_description *description = &state->node.devices[place.device];
    *device = (struct sim_visible){.place = place, .account = -1, .uuid = parse_uuid(description->uuid)};
    snprintf(device->name, sizeof device->name, "%s", description->name);
    struct sim_client client = sim_client_find();
    device->all_multiprocessors = sim_place_multiprocessors(state, place);
    device->multiprocessors = sim_client_multiprocessors(&client, device->all_multiprocessors);
    if (place.gpu_instance >= 0) {
        const struct sim_gpu_instance *instance = &state->devices[place.device].instances[place.gpu_instance];
        const struct sim_compute_instance *compute = &instance->compute[place.compute_instance];
        const struct sim_profile *profile = &description->profiles[instance->profile];
        device->uuid = parse_uuid(compute->uuid);
        bool whole = compute->compute_slices == profile->compute_slices;
        char part[16] = "";
        if (!whole)
            snprintf(part, sizeof part, "%uc.", compute->compute_slices);
        snprintf(device->name, sizeof device->name, "%.40s MIG %s%s", description->name, part, profile->name);
    }
    return true;
}

static bool first_instance(const struct sim_state *state, int device, struct sim_place *place)
{
    for (int g = 0; g < SIM_INSTANCES_MAX; g++)
        for (int c = 0; c < SIM_COMPUTE_MAX; c++)
            if (state->devices[device].instances[g].live && state->devices[device].instances[g].compute[c].live) {
                *place = (struct sim_place){device, g, c};
                return true;
            }
    return false;
}

static bool place_of(const struct sim_state *state, int device, struct sim_place *place)
{
    *place = (struct sim_place){device, -1, -1};
    return !state->devices[device].mig_enabled || first_instance(state, device, place);
}

/* `MIG-<uuid>`, or the older `MIG-GPU-<uuid>/<gpu instance>/<compute instance>`. */
static bool find_instance(const struct sim_state *state, const char *token, struct sim_place *place)
{
    char older[SIM_UUID_MAX + 32];
    int found = 0;
    for (int d = 0; d < (int)state->node.nvidia_count; d++)
        for (int g = 0; g < SIM_INSTANCES_MAX; g++)
            for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
                const struct sim_gpu_instance *instance = &state->devices[d].instances[g];
                if (!instance->live || !instance->compute[c].live)
                    continue;
                snprintf(older, sizeof older, "MIG-%s/%u/%u", state->node.devices[d].uuid, instance->id, instance->compute[c].id);
                if (strncasecmp(instance->compute[c].uuid, token, strlen(token)) && strcasecmp(older, token))
                    continue;
                *place = (struct sim_place){d, g, c};
                found++;
            }
    return found == 1;
}

static bool find_device(const struct sim_state *state, const char *token, struct sim_place *place)
{
    char *end;
    long index = strtol(token, &end, 10);
    if (*token && !*end)
        return index >= 0 && index < (long)state->node.nvidia_count && place_of(state, (int)index, place);
    if (!strncasecmp(token, "MIG-", 4))
        return find_instance(state, token, place);
    int found = 0, at = -1;
    for (unsigned d = 0; d < state->node.nvidia_count && strlen(token) > 4; d++)
        if (!strncasecmp(state->node.devices[d].uuid, token, strlen(token))) {
            at = (int)d;
            found++;
        }
    return found == 1 && place_of(state, at, place);
}

static void read_list(const struct sim_state *state, char *list)
{
    char *rest = list;
    struct sim_place place;
    for (char *token; (token = strsep(&rest, ","));) {
        token += strspn(token, " \t");
        token[strcspn(token, " \t\n")] = 0;
        if (visible_count == SIM_DEVICES_MAX || !find_device(state, token, &place) || !add(state, place))
            return;
    }
}

static void keep_one_instance(void)
{
    for (int i = 0; i < visible_count; i++)
        if (visible[i].place.gpu_instance >= 0) {
            if (i)
                visible[0] = visible[i];
            visible_count = 1;
            return;
        }
}

CUresult sim_visible_find(void)
{
    const char *asked = getenv("CUDA_VISIBLE_DEVICES");
    struct sim_place place;
    char list[1024];
    visible_count = 0;
    struct sim_state *state = sim_enter();
    if (asked) {
        snprintf(list, sizeof list, "%s", asked);
        read_list(state, list);
        keep_one_instance();
    } else {
        for (unsigned d = 0; d < state->node.nvidia_count; d++)
            if (!state->devices[d].mig_enabled)
                add(state, (struct sim_place){(int)d, -1, -1});
        for (unsigned d = 0; d < state->node.nvidia_count && !visible_count; d++)
            if (first_instance(state, (int)d, &place))
                add(state, place);
    }
    sim_leave(state);
    return visible_count ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int sim_visible_count(void)
{
    return visible_count;
}

struct sim_visible *sim_visible_at(int device)
{
    return device >= 0 && device < visible_count ? &visible[device] : NULL;
}

int sim_visible_of(struct sim_place place)
{
    for (int i = 0; i < visible_count; i++)
        if (!memcmp(&visible[i].place, &place, sizeof place))
            return i;
    return -1;
}

int sim_visible_account(struct sim_visible *device)
{
    if (device->account < 0 && (device->account = sim_account_open(device->place)) >= 0) {
        struct sim_client client = sim_client_find();
        sim_account_limit(device->account, sim_client_limit_bytes(&client, (int)(device - visible), &device->uuid));
    }
    return device->account;
}

const struct sim_description *sim_visible_description(const struct sim_visible *device)
{
    return &sim_node()->devices[device->place.device];
}

unsigned sim_visible_multiprocessors(const struct sim_visible *device)
{
    return device->multiprocessors;
}
