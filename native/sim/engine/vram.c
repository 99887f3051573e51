/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory: who asked for how much, and what it cost the device.
 *
 * Invariant: a place's spent bytes are the sum of its accounts' granules and context footprints, and never more than its
 * capacity. Requests are counted to the byte; the device gives whole granules of 2 MiB to one process at a time.
 */
#include <errno.h>
#include <string.h>

#include "engine.h"

static struct sim_account *own_account(struct sim_state *state, int account)
{
    return &state->processes[sim_process_self()].accounts[account];
}

uint64_t sim_vram_capacity(const struct sim_state *state, struct sim_place place)
{
    const struct sim_description *description = &state->node.devices[place.device];
    if (place.gpu_instance < 0)
        return description->vram_bytes - description->reserve_bytes;
    return description->profiles[state->devices[place.device].instances[place.gpu_instance].profile].memory_bytes;
}

uint64_t *sim_vram_spent(struct sim_state *state, struct sim_place place)
{
    struct sim_device *device = &state->devices[place.device];
    return place.gpu_instance < 0 ? &device->spent_bytes : &device->instances[place.gpu_instance].spent_bytes;
}

unsigned sim_place_multiprocessors(const struct sim_state *state, struct sim_place place)
{
    if (place.gpu_instance < 0)
        return state->node.devices[place.device].multiprocessors;
    return state->devices[place.device].instances[place.gpu_instance].compute[place.compute_instance].multiprocessors;
}

/* Whether `bytes` more fit; the memory of the dead is taken back before the answer is no. */
bool sim_vram_fits(struct sim_state *state, struct sim_place place, uint64_t bytes)
{
    uint64_t capacity = sim_vram_capacity(state, place);
    for (int attempt = 0; attempt < 2; attempt++) {
        uint64_t spent = *sim_vram_spent(state, place);
        if (spent <= capacity && bytes <= capacity - spent)
            return true;
        if (!attempt)
            sim_process_sweep(state);
    }
    return false;
}

/* A client of MPS may have a limit of its own. */
static bool within_limit(const struct sim_account *account, uint64_t bytes)
{
    uint64_t held = account->granule_bytes + account->context_bytes;
    return !account->limit_bytes || (held <= account->limit_bytes && bytes <= account->limit_bytes - held);
}

void sim_vram_note_peak(struct sim_state *state, struct sim_place place, struct sim_account *account)
{
    struct sim_totals *totals = &state->devices[place.device].totals;
    uint64_t spent = *sim_vram_spent(state, place);
    if (account->requested_bytes > account->requested_peak_bytes)
        account->requested_peak_bytes = account->requested_bytes;
    if (account->granule_bytes > account->granule_peak_bytes)
        account->granule_peak_bytes = account->granule_bytes;
    if (spent > totals->spent_peak_bytes)
        totals->spent_peak_bytes = spent;
}

int sim_vram_charge(int index, uint64_t requested, uint64_t granules)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    int result = 0;
    if (granules && (!within_limit(account, granules) || !sim_vram_fits(state, place, granules))) {
        account->refusals++;
        state->devices[place.device].totals.refusals++;
        result = -ENOMEM;
    } else {
        account->granule_bytes += granules;
        account->requested_bytes += requested;
        SIM_STORE_ORDER();
        *sim_vram_spent(state, place) += granules;
        account->allocations++;
        state->devices[place.device].totals.allocations++;
        sim_vram_note_peak(state, place, account);
    }
    sim_leave(state);
    return result;
}

bool sim_vram_room(int index, uint64_t granules)
{
    struct sim_state *state = sim_enter();
    const struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    bool room = within_limit(account, granules) && sim_vram_fits(state, place, granules);
    sim_leave(state);
    return room;
}

void sim_vram_refund(int index, uint64_t requested, uint64_t granules)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    account->requested_bytes -= requested;
    account->granule_bytes -= granules;
    SIM_STORE_ORDER();
    *sim_vram_spent(state, place) -= granules;
    sim_leave(state);
}

void sim_vram_info(struct sim_place place, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    *total_bytes = sim_vram_capacity(state, place);
    *free_bytes = *total_bytes - *sim_vram_spent(state, place);
    sim_leave(state);
}

/* --- Accounts ---------------------------------------------------------------------------------------------------------- */

static bool at(const struct sim_account *account, struct sim_place place)
{
    return account->live && account->device == place.device && account->gpu_instance == place.gpu_instance &&
           account->compute_instance == place.compute_instance;
}

static int open_channel(struct sim_state *state, struct sim_place place)
{
    for (int i = 0; i < SIM_CHANNELS_MAX; i++) {
        struct sim_channel *channel = &state->channels[i];
        if (channel->live)
            continue;
        channel->process = sim_process_self();
        channel->device = place.device;
        channel->gpu_instance = place.gpu_instance;
        channel->compute_instance = place.compute_instance;
        channel->mps = state->processes[sim_process_self()].mps;
        sim_channel_forget(state, channel);
        SIM_STORE_ORDER();
        channel->live = 1;
        struct sim_timeline *timeline = sim_timeline_at(state, place.device, place.gpu_instance, place.compute_instance);
        timeline->members[timeline->member_count++] = (uint16_t)i;
        return i;
    }
    return -EUSERS;
}

static const char *uuid_at(const struct sim_state *state, struct sim_place place)
{
    if (place.gpu_instance < 0)
        return state->node.devices[place.device].uuid;
    return state->devices[place.device].instances[place.gpu_instance].compute[place.compute_instance].uuid;
}

static int open_account(struct sim_state *state, struct sim_place place)
{
    struct sim_process *process = &state->processes[sim_process_self()];
    int empty = -EUSERS;
    for (int i = SIM_ACCOUNTS_MAX - 1; i >= 0; i--) {
        if (at(&process->accounts[i], place) && !strcmp(process->accounts[i].uuid, uuid_at(state, place)))
            return i;
        if (!process->accounts[i].live)
            empty = i;
    }
    if (empty < 0)
        return empty;
    int channel = open_channel(state, place);
    if (channel < 0)
        return channel;
    struct sim_account *account = &process->accounts[empty];
    *account = (struct sim_account){.device = place.device, .gpu_instance = place.gpu_instance, .compute_instance = place.compute_instance};
    account->channel = channel;
    strcpy(account->uuid, uuid_at(state, place));
    SIM_STORE_ORDER();
    account->live = 1;
    return empty;
}

int sim_account_open(struct sim_place place)
{
    struct sim_state *state = sim_enter();
    int result = open_account(state, place);
    if (result == -EUSERS) {
        sim_process_sweep(state);
        result = open_account(state, place);
    }
    sim_leave(state);
    return result;
}

void sim_account_limit(int index, uint64_t limit_bytes)
{
    struct sim_state *state = sim_enter();
    own_account(state, index)->limit_bytes = limit_bytes;
    sim_leave(state);
}

int sim_footprint_add(int index, uint64_t bytes)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    int result = within_limit(account, bytes) && sim_vram_fits(state, place, bytes) ? 0 : -ENOMEM;
    if (!result) {
        account->context_bytes += bytes;
        SIM_STORE_ORDER();
        *sim_vram_spent(state, place) += bytes;
        sim_vram_note_peak(state, place, account);
    }
    sim_leave(state);
    return result;
}

void sim_footprint_sub(int index, uint64_t bytes)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    account->context_bytes -= bytes;
    SIM_STORE_ORDER();
    *sim_vram_spent(state, place) -= bytes;
    sim_leave(state);
}

int sim_account_retain(int index)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    uint64_t footprint = account->contexts ? 0 : state->node.context_bytes;
    int result = within_limit(account, footprint) && sim_vram_fits(state, place, footprint) ? 0 : -ENOMEM;
    if (!result) {
        account->contexts++;
        account->context_bytes += footprint;
        SIM_STORE_ORDER();
        *sim_vram_spent(state, place) += footprint;
        sim_vram_note_peak(state, place, account);
    }
    sim_leave(state);
    return result;
}

void sim_account_release(int index)
{
    struct sim_state *state = sim_enter();
    struct sim_account *account = own_account(state, index);
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    if (account->contexts && !--account->contexts) {
        uint64_t footprint = account->context_bytes;
        account->context_bytes = 0;
        SIM_STORE_ORDER();
        *sim_vram_spent(state, place) -= footprint;
    }
    sim_leave(state);
}
