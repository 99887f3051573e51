/* SPDX-License-Identifier: Apache-2.0
 *
 * Hardware partitions: MIG's GPU instances and the compute instances inside them, and what other vendors have instead.
 *
 * A partition is a GPU instance here, whoever makes the device. MIG's are made one by one while the device is in MIG mode; those
 * of a `carvable` device while nobody uses all of it; those of a layout all at once, by laying the whole device out (layout.c).
 *
 * Invariant: live GPU instances of a device cover disjoint memory slots and are of one layout, their compute slices and what
 * they need beside sum to at most the device's, at most one has media extensions, and of no profile are there more than its
 * maximum; partitioned devices of a group share what their profiles say. A new instance is written whole before its `live` word.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"

static const struct sim_profile *profile_of(const struct sim_state *state, int device, unsigned instance)
{
    return &state->node.devices[device].profiles[state->devices[device].instances[instance].profile];
}

bool sim_mig_in_use(const struct sim_state *state, int device, int instance, int compute)
{
    for (int p = 0; p < SIM_PROCESSES_MAX; p++) {
        if (state->processes[p].state != SIM_PROCESS_LIVE)
            continue;
        for (int a = 0; a < SIM_ACCOUNTS_MAX; a++) {
            const struct sim_account *account = &state->processes[p].accounts[a];
            if (account->live && account->contexts && account->device == device && (instance < 0 || account->gpu_instance == instance) &&
                (compute < 0 || account->compute_instance == compute))
                return true;
        }
    }
    return false;
}

bool sim_partitioned(const struct sim_state *state, int device)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (state->devices[device].instances[i].live)
            return true;
    return false;
}

static bool used_whole(const struct sim_state *state, int device)
{
    for (int p = 0; p < SIM_PROCESSES_MAX; p++)
        for (int a = 0; state->processes[p].state == SIM_PROCESS_LIVE && a < SIM_ACCOUNTS_MAX; a++) {
            const struct sim_account *account = &state->processes[p].accounts[a];
            if (account->live && account->contexts && account->device == device && account->gpu_instance < 0)
                return true;
        }
    return false;
}

int sim_mig_enable(struct sim_state *state, int device, bool enable)
{
    struct sim_device *at = &state->devices[device];
    if (!state->node.devices[device].mig_capable)
        return -ENOTSUP;
    if (at->mig_enabled == enable && at->mig_pending == enable)
        return 0;
    sim_process_sweep(state);
    if (sim_mig_in_use(state, device, -1, -1) || sim_partitioned(state, device))
        return -EBUSY;
    at->mig_pending = enable;
    if (!state->node.devices[device].mig_reset)
        at->mig_enabled = enable;
    return 0;
}

int sim_device_reset(struct sim_state *state, int device)
{
    sim_process_sweep(state);
    if (sim_mig_in_use(state, device, -1, -1) || sim_partitioned(state, device))
        return -EBUSY;
    struct sim_health *health = &state->devices[device].health;
    state->devices[device].mig_enabled = state->devices[device].mig_pending;
    health->lost = health->remap_pending = 0;
    health->ecc_corrected = health->ecc_uncorrected = 0;
    return 0;
}

static bool starts_at(const struct sim_profile *profile, unsigned start)
{
    for (unsigned i = 0; i < profile->start_count; i++)
        if (profile->starts[i] == start)
            return true;
    return false;
}

/* JPEG decoders of a whole device. Those of MIG come with the slices; elsewhere partitions share them. */
static unsigned jpegs_of(const struct sim_description *description)
{
    unsigned most = 0;
    for (unsigned p = 0; p < description->profile_count; p++)
        if (description->profiles[p].jpegs > most)
            most = description->profiles[p].jpegs;
    return most;
}

/* Whether one more instance of `profile` keeps every budget, wherever it lies. */
static bool budget(const struct sim_state *state, int device, const struct sim_profile *profile)
{
    const struct sim_description *description = &state->node.devices[device];
    unsigned slices = profile->compute_slices, same = 1, media = profile->media_extensions, auxiliary = profile->auxiliary;
    unsigned jpegs = profile->jpegs;
    for (unsigned i = 0; i < SIM_INSTANCES_MAX; i++) {
        if (!state->devices[device].instances[i].live)
            continue;
        const struct sim_profile *other = profile_of(state, device, i);
        slices += other->compute_slices;
        same += other == profile;
        media += other->media_extensions;
        auxiliary += other->auxiliary;
        jpegs += other->jpegs;
        if (strcmp(other->layout, profile->layout))
            return false;
    }
    return slices <= description->compute_slices && same <= profile->max_instances && media <= 1 &&
           (!description->auxiliary || auxiliary <= description->auxiliary) && (description->mig_capable || jpegs <= jpegs_of(description));
}

bool sim_mig_fits(const struct sim_state *state, int device, unsigned index, unsigned start)
{
    const struct sim_profile *profile = &state->node.devices[device].profiles[index];
    if (!starts_at(profile, start) || !budget(state, device, profile))
        return false;
    for (unsigned i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_gpu_instance *other = &state->devices[device].instances[i];
        if (other->live && start < other->start + profile_of(state, device, i)->size && other->start < start + profile->size)
            return false;
    }
    return true;
}

/* How many more of this profile fit: placed greedily from the lowest start, as the driver's answer is. */
unsigned sim_mig_remaining(const struct sim_state *state, int device, unsigned index)
{
    const struct sim_description *description = &state->node.devices[device];
    const struct sim_profile *profile = &description->profiles[index];
    unsigned count = 0, next_free = 0, slices = 0, same = 0, media = 0, auxiliary = 0;
    for (unsigned i = 0; i < SIM_INSTANCES_MAX; i++)
        if (state->devices[device].instances[i].live) {
            slices += profile_of(state, device, i)->compute_slices;
            same += profile_of(state, device, i) == profile;
            media += profile_of(state, device, i)->media_extensions;
            auxiliary += profile_of(state, device, i)->auxiliary;
        }
    for (unsigned i = 0; i < profile->start_count; i++) {
        unsigned start = profile->starts[i];
        bool room = slices + (count + 1) * profile->compute_slices <= description->compute_slices && same + count < profile->max_instances &&
                    media + (count + 1) * profile->media_extensions <= 1 &&
                    (!description->auxiliary || auxiliary + (count + 1) * profile->auxiliary <= description->auxiliary);
        if (start >= next_free && room && sim_mig_fits(state, device, index, start)) {
            count++;
            next_free = start + profile->size;
        }
    }
    return count;
}

static int choose_start(const struct sim_state *state, int device, unsigned profile)
{
    const struct sim_profile *at = &state->node.devices[device].profiles[profile];
    for (unsigned i = at->start_count; i-- > 0;) /* from the end, as the driver does: the low slots serve the large profiles */
        if (sim_mig_fits(state, device, profile, at->starts[i]))
            return (int)at->starts[i];
    return -ENOSPC;
}

static bool numbered(const struct sim_device *device, unsigned id)
{
    for (int i = 0; i < SIM_INSTANCES_MAX; i++)
        if (device->instances[i].live && device->instances[i].id == id)
            return true;
    return false;
}

static unsigned free_id(const struct sim_state *state, int device)
{
    unsigned id = 1;
    while (numbered(&state->devices[device], id))
        id++;
    return id;
}

int sim_mig_create(struct sim_state *state, int device, unsigned profile, int start)
{
    struct sim_device *at = &state->devices[device];
    if (!at->mig_enabled && !state->node.devices[device].carvable)
        return -ENOTSUP;
    if (at->health.refusals) {
        at->health.refusals--;
        return -EIO;
    }
    if (state->node.devices[device].carvable && used_whole(state, device))
        return -EBUSY;
    if (start >= 0 && !starts_at(&state->node.devices[device].profiles[profile], (unsigned)start))
        return -EINVAL;
    int chosen = start < 0 ? choose_start(state, device, profile) : start;
    if (chosen < 0 || !sim_mig_fits(state, device, profile, (unsigned)chosen))
        return -ENOSPC;
    for (int i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_gpu_instance *instance = &at->instances[i];
        if (instance->live)
            continue;
        memset(instance, 0, sizeof *instance);
        instance->id = free_id(state, device);
        instance->profile = profile;
        instance->start = (unsigned)chosen;
        instance->holder = sim_holding();
        for (int c = 0; c < SIM_COMPUTE_MAX; c++)
            sim_timeline_clear(&instance->compute[c].timeline);
        SIM_STORE_ORDER();
        instance->live = 1;
        return i;
    }
    return -ENOSPC;
}

int sim_mig_destroy(struct sim_state *state, int device, unsigned index)
{
    struct sim_gpu_instance *instance = &state->devices[device].instances[index];
    for (int c = 0; c < SIM_COMPUTE_MAX; c++)
        if (instance->compute[c].live)
            return -EBUSY;
    instance->live = 0;
    return 0;
}

/* --- Compute instances -------------------------------------------------------------------------------------------------- */

unsigned sim_mig_compute_slices(const struct sim_state *state, int device, unsigned instance, unsigned profile)
{
    static const unsigned slices[] = {1, 2, 3, 4, 7, 8, 6}; /* by NVML_COMPUTE_INSTANCE_PROFILE_* */
    if (profile >= sizeof slices / sizeof *slices || slices[profile] > profile_of(state, device, instance)->compute_slices)
        return 0;
    return slices[profile];
}

unsigned sim_mig_compute_multiprocessors(const struct sim_state *state, int device, unsigned instance, unsigned slices)
{
    const struct sim_profile *profile = profile_of(state, device, instance);
    if (slices == profile->compute_slices)
        return profile->multiprocessors;
    return profile->multiprocessors * slices / profile->compute_slices & ~1u;
}

unsigned sim_mig_compute_free(const struct sim_state *state, int device, unsigned instance)
{
    unsigned left = profile_of(state, device, instance)->compute_slices;
    for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
        const struct sim_compute_instance *compute = &state->devices[device].instances[instance].compute[c];
        left -= compute->live ? compute->compute_slices : 0;
    }
    return left;
}

/* First run of `slices` free compute slices, or -1. */
static int free_run(const struct sim_state *state, int device, unsigned instance, unsigned slices)
{
    unsigned used = 0, all = profile_of(state, device, instance)->compute_slices;
    for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
        const struct sim_compute_instance *compute = &state->devices[device].instances[instance].compute[c];
        if (compute->live)
            used |= ((1u << compute->compute_slices) - 1) << compute->start;
    }
    for (unsigned start = 0; start + slices <= all; start++)
        if (!(used & (((1u << slices) - 1) << start)))
            return (int)start;
    return -1;
}

unsigned sim_vnpu_number(const struct sim_state *state, int device, unsigned id)
{
    unsigned chip = 0;
    for (int d = 0; d < device; d++)
        chip += !strcmp(state->node.devices[d].vendor, "huawei");
    return SIM_VNPU_FIRST + SIM_VNPU_STRIDE * chip + id - 1;
}

/* A number of its own for every instance ever made, spread by a mixing function into the shape of a version-4 UUID behind
 * what the vendor calls a partition. An Ascend chip's have no UUID but a number. */
static void name_instance(struct sim_state *state, int device, unsigned id, char out[SIM_UUID_MAX])
{
    if (!strcmp(state->node.devices[device].vendor, "huawei")) {
        char chip[SIM_UUID_MAX];
        strcpy(chip, state->node.devices[device].uuid);
        snprintf(out, SIM_UUID_MAX, "%.47s-vnpu%u", chip, sim_vnpu_number(state, device, id));
        return;
    }
    uint64_t seed = ++state->serial, words[2];
    for (const char *at = state->node.devices[device].uuid; *at; at++)
        seed = (seed ^ (unsigned char)*at) * 0x100000001b3ULL;
    for (int i = 0; i < 2; i++) {
        uint64_t mixed = (seed += 0x9e3779b97f4a7c15ULL);
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
        words[i] = mixed ^ (mixed >> 31);
    }
    if (!strcmp(state->node.devices[device].vendor, "amd")) { /* as ROCr calls it, by its unique id */
        snprintf(out, SIM_UUID_MAX, "GPU-%016llx", (unsigned long long)words[0]);
        return;
    }
    const char *prefix = state->node.devices[device].mig_capable ? "MIG" : "PART";
    snprintf(out, SIM_UUID_MAX, "%s-%08x-%04x-4%03x-%04x-%012llx", prefix, (unsigned)(words[0] >> 32), (unsigned)(words[0] >> 16 & 0xffff),
             (unsigned)(words[0] & 0xfff), (unsigned)(words[1] >> 48 & 0x3fff) | 0x8000u, (unsigned long long)(words[1] & 0xffffffffffffULL));
}

struct compute_kind {
    unsigned profile, slices;
};

/* Returns the index of the new compute instance, or -ENOSPC. */
static int make_compute(struct sim_state *state, int device, unsigned instance, struct compute_kind kind)
{
    int start = free_run(state, device, instance, kind.slices);
    if (start < 0)
        return -ENOSPC;
    for (int c = 0; c < SIM_COMPUTE_MAX; c++) {
        struct sim_compute_instance *compute = &state->devices[device].instances[instance].compute[c];
        if (compute->live)
            continue;
        memset(compute, 0, sizeof *compute);
        sim_timeline_clear(&compute->timeline);
        compute->id = (unsigned)c;
        compute->profile = kind.profile;
        compute->compute_slices = kind.slices;
        compute->start = (unsigned)start;
        compute->multiprocessors = sim_mig_compute_multiprocessors(state, device, instance, kind.slices);
        name_instance(state, device, state->devices[device].instances[instance].id, compute->uuid);
        SIM_STORE_ORDER();
        compute->live = 1;
        return c;
    }
    return -ENOSPC;
}

int sim_mig_compute_create(struct sim_state *state, int device, unsigned instance, unsigned profile)
{
    unsigned slices = sim_mig_compute_slices(state, device, instance, profile);
    if (!slices)
        return -EINVAL;
    return make_compute(state, device, instance, (struct compute_kind){profile, slices});
}

bool sim_group_agrees(const struct sim_state *state, int device, const struct sim_profile *profile)
{
    const char *group = state->node.devices[device].group;
    for (int d = 0; d < (int)state->node.device_count && group[0] && profile->shared[0]; d++)
        for (unsigned i = 0; d != device && !strcmp(state->node.devices[d].group, group) && i < SIM_INSTANCES_MAX; i++)
            if (state->devices[d].instances[i].live && strcmp(profile_of(state, d, i)->shared, profile->shared))
                return false;
    return true;
}

int sim_partition_create(struct sim_state *state, int device, unsigned profile, int start)
{
    return sim_partition_create_as(state, device, profile, start, free_id(state, device));
}

int sim_partition_create_as(struct sim_state *state, int device, unsigned profile, int start, unsigned id)
{
    if (numbered(&state->devices[device], id))
        return -EEXIST;
    if (!sim_group_agrees(state, device, &state->node.devices[device].profiles[profile]))
        return -EXDEV;
    int instance = sim_mig_create(state, device, profile, start);
    if (instance < 0)
        return instance;
    state->devices[device].instances[instance].id = id;
    int compute = make_compute(state, device, (unsigned)instance, (struct compute_kind){0, profile_of(state, device, (unsigned)instance)->compute_slices});
    if (compute >= 0)
        return instance;
    sim_mig_destroy(state, device, (unsigned)instance);
    return compute;
}

int sim_partition_destroy(struct sim_state *state, int device, unsigned instance)
{
    for (unsigned c = 0; c < SIM_COMPUTE_MAX; c++)
        if (state->devices[device].instances[instance].compute[c].live) {
            int result = sim_mig_compute_destroy(state, device, instance, c);
            if (result)
                return result;
        }
    return sim_mig_destroy(state, device, instance);
}

int sim_mig_compute_destroy(struct sim_state *state, int device, unsigned instance, unsigned compute)
{
    sim_process_sweep(state);
    if (sim_mig_in_use(state, device, (int)instance, (int)compute))
        return -EBUSY;
    state->devices[device].instances[instance].compute[compute].live = 0;
    return 0;
}
