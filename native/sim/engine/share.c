/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory that more than one process may hold, and memory that others may look into.
 *
 *   shared    alive while a process holds it; charged once, to one of its holders, who is at first the one that made it
 *   exported  charged in its owner's account; alive until the owner withdraws it
 *
 * Invariant: a process's holds are bits in its own row of the table, so that they go with it whenever it dies; the entry of a
 * shared memory is charged exactly as long as it is live.
 */
#include <errno.h>

#include "engine.h"

static unsigned held[SIM_SHARES_MAX]; /* how often this process holds each */

static bool holds(const struct sim_state *state, int process, int share)
{
    return state->processes[process].state == SIM_PROCESS_LIVE && (state->processes[process].holds[share / 64] >> share % 64 & 1);
}

static struct sim_place place_of(const struct sim_share *share)
{
    return (struct sim_place){share->device, share->gpu_instance, share->compute_instance};
}

static int find_empty(const struct sim_state *state)
{
    for (int i = 0; i < SIM_SHARES_MAX; i++)
        if (!state->shares[i].live)
            return i;
    return -ENOSPC;
}

static void set_hold(struct sim_state *state, int process, int share, bool hold)
{
    uint64_t bit = 1ULL << share % 64, *word = &state->processes[process].holds[share / 64];
    *word = hold ? *word | bit : *word & ~bit;
}

int sim_share_make(int index, bool shared, struct sim_share *facts)
{
    struct sim_state *state = sim_enter();
    int self = sim_process_self(), slot = find_empty(state);
    if (slot >= 0) {
        struct sim_account *account = &state->processes[self].accounts[index];
        struct sim_share *share = &state->shares[slot];
        *share = *facts;
        share->live = 0;
        share->id = facts->id = ++state->serial;
        share->device = account->device;
        share->gpu_instance = account->gpu_instance;
        share->compute_instance = account->compute_instance;
        share->owner = self;
        if (!shared)
            share->requested_bytes = share->granule_bytes = 0;
        set_hold(state, self, slot, shared);
        SIM_STORE_ORDER();
        share->live = 1;
        SIM_STORE_ORDER(); /* the account no longer pays what the entry does; spent bytes are as before */
        account->requested_bytes -= share->requested_bytes;
        account->granule_bytes -= share->granule_bytes;
        held[slot] = shared;
    }
    sim_leave(state);
    return slot;
}

int sim_share_find(int slot, uint64_t id, struct sim_share *facts)
{
    if (slot < 0 || slot >= SIM_SHARES_MAX)
        return -ENOENT;
    struct sim_state *state = sim_enter();
    sim_process_sweep(state);
    const struct sim_share *share = &state->shares[slot];
    int result = share->live && share->id == id ? 0 : -ENOENT;
    if (!result) {
        *facts = *share;
        facts->owner_pid = share->owner == sim_process_self() ? 0 : sim_process_pid(state, share->owner);
    }
    sim_leave(state);
    return result;
}

int sim_share_hold(int slot, uint64_t id)
{
    struct sim_state *state = sim_enter();
    int result = state->shares[slot].live && state->shares[slot].id == id ? 0 : -ENOENT;
    if (!result) {
        set_hold(state, sim_process_self(), slot, true);
        held[slot]++;
    }
    sim_leave(state);
    return result;
}

/* `process` lets go: another holder pays from now on, or the memory is free. */
static bool let_go(struct sim_state *state, int process, int slot)
{
    struct sim_share *share = &state->shares[slot];
    set_hold(state, process, slot, false);
    for (int other = 0; other < SIM_PROCESSES_MAX; other++)
        if (other != process && holds(state, other, slot)) {
            if (share->owner == process)
                share->owner = other;
            return false;
        }
    uint64_t *spent = sim_vram_spent(state, place_of(share));
    share->live = 0;
    SIM_STORE_ORDER();
    *spent -= share->granule_bytes < *spent ? share->granule_bytes : *spent;
    return true;
}

bool sim_share_drop(int slot)
{
    bool last = false;
    if (held[slot] > 1) {
        held[slot]--;
        return false;
    }
    struct sim_state *state = sim_enter();
    if (held[slot])
        last = let_go(state, sim_process_self(), slot);
    else
        state->shares[slot].live = 0; /* exported: nothing of it was charged here */
    held[slot] = 0;
    sim_leave(state);
    return last;
}

void sim_share_reclaim(struct sim_state *state, int process)
{
    for (int slot = 0; slot < SIM_SHARES_MAX; slot++) {
        struct sim_share *share = &state->shares[slot];
        if (state->processes[process].holds[slot / 64] >> slot % 64 & 1)
            let_go(state, process, slot);
        else if (share->live && share->owner == process)
            share->live = 0;
    }
}

void sim_share_repair(struct sim_state *state)
{
    for (int slot = 0; slot < SIM_SHARES_MAX; slot++)
        if (state->shares[slot].live)
            *sim_vram_spent(state, place_of(&state->shares[slot])) += state->shares[slot].granule_bytes;
}

struct sim_paid sim_share_paid(const struct sim_state *state, int process, const struct sim_account *account)
{
    struct sim_paid paid = {0, 0};
    for (int slot = 0; slot < SIM_SHARES_MAX; slot++) {
        const struct sim_share *share = &state->shares[slot];
        if (!share->live || share->owner != process || share->device != account->device || share->gpu_instance != account->gpu_instance ||
            share->compute_instance != account->compute_instance)
            continue;
        paid.requested_bytes += share->requested_bytes;
        paid.granule_bytes += share->granule_bytes;
    }
    return paid;
}
