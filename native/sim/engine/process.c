/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of processes: who is alive, and taking back what the dead held.
 *
 * Invariant: a slot is reclaimed only when its owner holds no byte lock any more and cannot be found by pid and start
 * time either (a live process that closed all its descriptors has lost its lock, but not its memory).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

#define SLOT_LOCK_BASE (1LL << 40) /* far behind the end of the file: only the lock matters */

static int self = -1;

static uint64_t namespace_of_pids(void)
{
    struct stat stat_of;
    return stat("/proc/self/ns/pid", &stat_of) ? 0 : (uint64_t)stat_of.st_ino;
}

/* Start time in clock ticks since boot, 0 when there is no such process or it is a zombie. */
static uint64_t start_of(int pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return 0;
    text[got] = 0;
    char *at = strrchr(text, ')'); /* field 2 may itself contain spaces and brackets */
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return 0;
    for (int field = 2; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static struct flock slot_lock(int slot)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = SLOT_LOCK_BASE + slot, .l_len = 1};
}

/* The lock holder's pid in our namespace (0: in a namespace we cannot see), or -1 when nobody holds the slot's lock. */
static int lock_holder(int slot)
{
    struct flock lock = slot_lock(slot);
    if (fcntl(sim_engine_fd(), F_GETLK, &lock) || lock.l_type == F_UNLCK)
        return -1;
    return (int)lock.l_pid;
}

static bool found_by_pid(const struct sim_process *process)
{
    return process->pid_namespace == namespace_of_pids() && process->start_ticks && start_of(process->pid) == process->start_ticks;
}

/* A process never conflicts with its own locks, so both drivers of this process must know it by its pid. */
static bool is_us(const struct sim_process *process)
{
    return process->pid == (int)getpid() && process->pid_namespace == namespace_of_pids() && process->start_ticks == start_of(process->pid);
}

int sim_process_pid(const struct sim_state *state, int index)
{
    const struct sim_process *process = &state->processes[index];
    int holder = lock_holder(index);
    if (holder >= 0)
        return holder;
    return found_by_pid(process) ? process->pid : 0;
}

static void close_account(struct sim_state *state, struct sim_account *account, uint64_t now_ns)
{
    struct sim_place place = {account->device, account->gpu_instance, account->compute_instance};
    if (account->channel >= 0) {
        struct sim_channel *channel = &state->channels[account->channel];
        struct sim_totals *totals = &state->devices[account->device].totals;
        struct sim_done queued = sim_channel_done(state, channel, false);
        sim_channel_drop(state, account->channel, now_ns);
        struct sim_done kernels = sim_channel_done(state, channel, false), copies = sim_channel_done(state, channel, true);
        account->launches = queued.submitted;
        account->completed = kernels.completed;
        account->kernel_ns = kernels.ns;
        account->multiprocessor_ns = kernels.multiprocessor_ns;
        account->copies = copies.completed;
        account->copy_ns = copies.ns;
        SIM_STORE_ORDER();
        account->channel = -1;
        totals->launches += account->launches;
        totals->kernel_ns += account->kernel_ns;
        totals->multiprocessor_ns += account->multiprocessor_ns;
        totals->copy_ns += account->copy_ns;
        sim_channel_forget(state, channel);
    }
    uint64_t *spent = sim_vram_spent(state, place);
    uint64_t held = account->granule_bytes + account->context_bytes;
    account->granule_bytes = account->context_bytes = account->requested_bytes = 0;
    account->away_granule_bytes = account->away_context_bytes = account->away_requested_bytes = 0;
    account->contexts = account->away_contexts = 0;
    SIM_STORE_ORDER();
    *spent -= held < *spent ? held : *spent;
}

static void reclaim(struct sim_state *state, int index)
{
    struct sim_process *process = &state->processes[index];
    uint64_t now_ns = sim_now_ns();
    for (int i = 0; i < SIM_ACCOUNTS_MAX; i++)
        if (process->accounts[i].live)
            close_account(state, &process->accounts[i], now_ns);
    for (int i = 0; i < SIM_CHANNELS_MAX; i++)
        if (state->channels[i].live && state->channels[i].process == index) {
            sim_channel_drop(state, i, now_ns);
            sim_channel_forget(state, &state->channels[i]);
        }
    sim_share_reclaim(state, index);
    sim_hold_orphan(state, index);
    process->exited_ns = now_ns;
    SIM_STORE_ORDER();
    process->state = SIM_PROCESS_EXITED;
}

void sim_process_sweep(struct sim_state *state)
{
    for (int i = 0; i < SIM_PROCESSES_MAX; i++) {
        const struct sim_process *process = &state->processes[i];
        if (process->state != SIM_PROCESS_LIVE || i == self)
            continue;
        if (lock_holder(i) < 0 && !is_us(process) && !found_by_pid(process))
            reclaim(state, i);
    }
    sim_hold_sweep(state);
}

/* A free slot, or that of the process that has been gone for longest: the books keep the dead as long as there is room. Not one whose file lock is held: by
 * a process that was killed while it registered, and is still on its way out. */
static int find_slot(const struct sim_state *state)
{
    int oldest = -1;
    for (int i = 0; i < SIM_PROCESSES_MAX; i++) {
        const struct sim_process *process = &state->processes[i];
        if (process->state == SIM_PROCESS_LIVE || lock_holder(i) >= 0)
            continue;
        if (process->state == SIM_PROCESS_FREE)
            return i;
        if (oldest < 0 || process->exited_ns < state->processes[oldest].exited_ns)
            oldest = i;
    }
    return oldest;
}

static void read_command(char *out, size_t size)
{
    int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, out, size - 1);
    out[got > 0 ? got : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    if (fd >= 0)
        close(fd);
}

int sim_process_register(struct sim_client client)
{
    struct sim_state *state = sim_enter();
    for (int i = 0; i < SIM_PROCESSES_MAX; i++) /* our own past before an exec: same pid, same start */
        if (state->processes[i].state == SIM_PROCESS_LIVE && is_us(&state->processes[i]))
            reclaim(state, i);
    sim_process_sweep(state);
    int slot = find_slot(state);
    if (slot >= 0) {
        struct sim_process *process = &state->processes[slot];
        struct flock lock = slot_lock(slot);
        process->state = SIM_PROCESS_FREE;
        SIM_STORE_ORDER();
        memset(process, 0, sizeof *process);
        process->pid = (int)getpid();
        process->start_ticks = start_of(process->pid);
        process->pid_namespace = namespace_of_pids();
        process->since_ns = sim_now_ns();
        process->mps = client.mps;
        process->threads_percent = client.threads_percent;
        read_command(process->command, sizeof process->command);
        if (fcntl(sim_engine_fd(), F_SETLK, &lock))
            slot = -EAGAIN;
        SIM_STORE_ORDER();
        if (slot >= 0)
            process->state = SIM_PROCESS_LIVE;
    }
    sim_leave(state);
    self = slot;
    return slot == -1 ? -EUSERS : slot;
}

int sim_process_self(void)
{
    return self;
}
