/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine behind the simulated drivers. libcuda and libnvidia-ml each contain a copy; the state is shared.
 *
 * Functions return 0 or a negated errno unless said otherwise. Those with a `struct sim_state *` want the lock held
 * (sim_enter); the others take it themselves.
 */
#ifndef MICA_SIM_ENGINE_H
#define MICA_SIM_ENGINE_H

#include <stddef.h>

#include "state.h"

#define SIM_PUBLIC __attribute__((visibility("default")))

/* --- The state file ------------------------------------------------------------------------------------------------- */

/* Map the node's state, creating it from node.desc when this is the first process. Says on stderr what is wrong, once. */
int sim_engine_open(void);
/* Take the lock. Never fails once sim_engine_open succeeded: a holder that died is repaired after. */
struct sim_state *sim_enter(void);
void sim_leave(struct sim_state *state);
/* Without the lock: for what this process alone writes, and for words read atomically. */
struct sim_state *sim_shared(void);
/* The part that never changes; needs no lock. */
const struct sim_node *sim_node(void);
int sim_engine_fd(void);
/* $MICA_SIM_DIR, or what mica_sim_open was given. */
const char *sim_engine_directory(void);
uint64_t sim_now_ns(void);

/* Fill `node` from the text of node.desc. On -EINVAL `problem` says which line and why. */
int sim_description_parse(char *text, struct sim_node *node, char *problem, size_t problem_size);
void sim_state_repair(struct sim_state *state);

/* --- Processes ------------------------------------------------------------------------------------------------------ */

struct sim_client {
    bool mps;
    uint32_t threads_percent; /* 0: all */
};

/* Enter this process in the table. Returns its index. */
int sim_process_register(struct sim_client client);
int sim_process_self(void);
/* Reclaim what dead processes held. */
void sim_process_sweep(struct sim_state *state);
/* The pid of a live process as the caller's pid namespace knows it, or 0. */
int sim_process_pid(const struct sim_state *state, int process);

/* --- Suspending a process from outside: suspend.c --------------------------------------------------------------------- */

/* Ask for a step and wait until it is over. `from` is the stage it starts at. Returns 0 with its result; -ESRCH: no such process,
 * or it died meanwhile; -EPERM: it is at another stage; -ETIMEDOUT: it was not even begun until `until_ns`. */
int sim_desk_ask(int pid, enum sim_step step, enum sim_stage from, uint64_t until_ns, int *result);
/* The stage of that process and its thread. -ESRCH as above. */
int sim_desk_look(int pid, uint32_t *stage, int *thread);

/* For the thread itself: it is there; the next step, waited for; and that it is over, at what stage that leaves the process. */
void sim_desk_open(int thread);
enum sim_step sim_desk_next(uint64_t *until_ns);
void sim_desk_answer(enum sim_stage stage, int result);
/* Take everything this process holds off its devices' books, and put it back: all of it, or -ENOMEM and nothing. */
void sim_books_take_away(void);
int sim_books_put_back(void);

/* --- Accounts: a process on a device, or on an instance of one ------------------------------------------------------ */

struct sim_place {
    int device;
    int gpu_instance;     /* -1: the whole device */
    int compute_instance; /* -1 likewise */
};

/* The caller's account at `place`, made on first use. Returns its index. */
int sim_account_open(struct sim_place place);
/* A context came or went; the first one of an account pays the context's footprint. -ENOMEM when it does not fit. */
int sim_account_retain(int account);
void sim_account_release(int account);
/* What else nobody asks for by its size came or went. -ENOMEM when it does not fit. */
int sim_footprint_add(int account, uint64_t bytes);
void sim_footprint_sub(int account, uint64_t bytes);

/* Count an allocation of `requested` bytes that costs the device `granules` bytes more. -ENOMEM: refused and counted. */
int sim_vram_charge(int account, uint64_t requested, uint64_t granules);
/* Whether so much more would be granted now. */
bool sim_vram_room(int account, uint64_t granules);
void sim_vram_refund(int account, uint64_t requested, uint64_t granules);
/* What is free and what there is at `place`, in bytes. */
void sim_vram_info(struct sim_place place, uint64_t *free_bytes, uint64_t *total_bytes);
uint64_t sim_vram_capacity(const struct sim_state *state, struct sim_place place);
/* Whether `bytes` more fit; the memory of the dead is taken back before the answer is no. */
bool sim_vram_fits(struct sim_state *state, struct sim_place place, uint64_t bytes);
void sim_vram_note_peak(struct sim_state *state, struct sim_place place, struct sim_account *account);
uint64_t *sim_vram_spent(struct sim_state *state, struct sim_place place);
unsigned sim_place_multiprocessors(const struct sim_state *state, struct sim_place place);

/* A limit on what the account may hold, in bytes: for a client of MPS. */
void sim_account_limit(int account, uint64_t limit_bytes);

/* --- Memory that other processes may map: share.c ---------------------------------------------------------------------- */

/* Enter memory of the account in the table. `shared`: it lives while anyone holds it, this process does so now, and what
 * `facts` say is charged goes from the account to the entry. Else it is exported. Returns its slot, with facts->id
 * set, or -ENOSPC. */
int sim_share_make(int account, bool shared, struct sim_share *facts);
/* What is in a slot now. -ENOENT: nothing of that id any more. */
int sim_share_find(int slot, uint64_t id, struct sim_share *facts);
/* Hold shared memory (once more). -ENOENT as above. */
int sim_share_hold(int slot, uint64_t id);
/* Let go of shared memory (once), or withdraw exported memory. True when shared memory is free with that. */
bool sim_share_drop(int slot);
void sim_share_reclaim(struct sim_state *state, int process);
void sim_share_repair(struct sim_state *state);

/* What a process pays in the table, beside its account there. */
struct sim_paid {
    uint64_t requested_bytes, granule_bytes;
};
struct sim_paid sim_share_paid(const struct sim_state *state, int process, const struct sim_account *account);

/* --- Work ------------------------------------------------------------------------------------------------------------ */

/* A moment in an account's work: all orders up to and with `number` of each of its `lanes` are done. */
struct sim_position {
    uint32_t lanes; /* bits */
    uint64_t number[SIM_LANES];
};

static inline void sim_position_add(struct sim_position *position, unsigned lane, uint64_t number)
{
    if (!(position->lanes >> lane & 1) || position->number[lane] < number)
        position->number[lane] = number;
    position->lanes |= 1u << lane;
}

static inline void sim_position_join(struct sim_position *position, const struct sim_position *other)
{
    for (uint32_t rest = other->lanes; rest; rest &= rest - 1)
        sim_position_add(position, (unsigned)__builtin_ctz(rest), other->number[__builtin_ctz(rest)]);
}

/* A grid as the device sees it. `multiprocessors`: those it may use, of `all` that there are. */
struct sim_grid {
    uint64_t blocks, resident_blocks; /* in all; at most on one multiprocessor at a time */
    uint32_t multiprocessors, all;
};

/* What kernels of that name cost: the first rule that matches, or the node's default. Valid for ever. */
const struct sim_kernel_rule *sim_kernel_rule(const char *name);
/* A kernel's time, and on how many multiprocessors. `launch` numbers the launches of one kernel: it decides the noise. */
uint64_t sim_kernel_cost_ns(const struct sim_kernel_rule *rule, const struct sim_grid *grid, uint64_t launch, uint32_t *multiprocessors);

/* Queue an order on the account's lane, behind `after`. Returns its number, from 1, or 0 when the queue is full. Calls of
 * one process for one account must not overlap. */
uint64_t sim_order_try(int account, unsigned lane, uint64_t cost_ns, uint32_t multiprocessors, const struct sim_position *after);
/* Sleep until there is room in the queue. */
void sim_order_wait_room(int account, unsigned lane);
/* A position with everything that was submitted for the account until now. */
void sim_position_now(int account, struct sim_position *position);
/* Whether `position` is reached, and if so when (0 where that was too long ago to know). */
bool sim_position_done(int account, const struct sim_position *position, uint64_t *end_ns);
/* Whether it is known to be reached, without looking what happened since anybody looked last. Takes no lock. */
bool sim_position_passed(int account, const struct sim_position *position);
/* Sleep until `position` is reached. */
void sim_position_wait(int account, const struct sim_position *position);
/* When `position` can be reached at the soonest, for who sleeps in a way of his own; 0: it is reached. */
uint64_t sim_position_soonest_ns(int account, const struct sim_position *position);
/* A lane of its own for a part of the multiprocessors. -EUSERS: there are too many. */
int sim_part_open(int account);
void sim_part_close(int account, unsigned lane);

struct sim_timeline *sim_timeline_at(struct sim_state *state, int device, int gpu_instance, int compute_instance);
void sim_timeline_clear(struct sim_timeline *timeline);
/* Decide what ran up to `now_ns`. */
void sim_timeline_advance(struct sim_state *state, struct sim_timeline *timeline, uint64_t now_ns);
/* The same, and note how far everything has got: what follows is then about `now_ns`. */
void sim_timeline_catch_up(struct sim_state *state, struct sim_timeline *timeline, uint64_t now_ns);
uint64_t sim_timeline_busy_ns(const struct sim_timeline *timeline);
/* How long, from the timeline's clock, other processes' turns last at least before this channel's. */
uint64_t sim_timeline_ahead_ns(const struct sim_state *state, const struct sim_timeline *timeline, int channel);
/* Drop the work of a channel whose process is gone. */
void sim_channel_drop(struct sim_state *state, int channel, uint64_t now_ns);
/* Give a lane its ring, and a channel's rings back. */
int sim_lane_ensure(struct sim_state *state, struct sim_channel *channel, unsigned lane);
void sim_channel_forget(struct sim_state *state, struct sim_channel *channel);

/* What was done, with what is under way as far as it had got when somebody looked last. */
struct sim_done {
    uint64_t submitted, completed; /* orders */
    uint64_t ns;
    uint64_t multiprocessor_ns;
};
struct sim_done sim_channel_done(const struct sim_state *state, const struct sim_channel *channel, bool copies);
/* Busy parts per million over the last half to full second. */
unsigned sim_device_busy_ppm(struct sim_state *state, int device, uint64_t now_ns);

/* --- MIG ------------------------------------------------------------------------------------------------------------- */

/* -EBUSY: a process or an instance is on the device. -ENOTSUP: no MIG. */
int sim_mig_enable(struct sim_state *state, int device, bool enable);
/* Whether a GPU instance of `profile` may start at `start` now: every slot free and every budget kept. */
bool sim_mig_fits(const struct sim_state *state, int device, unsigned profile, unsigned start);
unsigned sim_mig_remaining(const struct sim_state *state, int device, unsigned profile);
/* `start` < 0: anywhere. Returns the index of the new instance, -ENOSPC, or -EINVAL for a start the profile lacks. */
int sim_mig_create(struct sim_state *state, int device, unsigned profile, int start);
int sim_mig_destroy(struct sim_state *state, int device, unsigned instance);
/* Compute slices of NVML_COMPUTE_INSTANCE_PROFILE_* `profile`, or 0 when there is no such profile here. */
unsigned sim_mig_compute_slices(const struct sim_state *state, int device, unsigned instance, unsigned profile);
unsigned sim_mig_compute_multiprocessors(const struct sim_state *state, int device, unsigned instance, unsigned slices);
unsigned sim_mig_compute_free(const struct sim_state *state, int device, unsigned instance);
int sim_mig_compute_create(struct sim_state *state, int device, unsigned instance, unsigned profile);
int sim_mig_compute_destroy(struct sim_state *state, int device, unsigned instance, unsigned compute);
bool sim_mig_in_use(const struct sim_state *state, int device, int instance, int compute);

/* --- Partitions of any vendor: partition.c, layout.c --------------------------------------------------------------------- */

/* A partition with one compute instance over all of it. Returns its index or what sim_mig_create does; -EIO: a refusal was asked
 * for; -EXDEV: partitioned devices of its group share something else. */
int sim_partition_create(struct sim_state *state, int device, unsigned profile, int start);
/* The same with a number of the caller's own choice. -EEXIST: another one of the device has it. */
int sim_partition_create_as(struct sim_state *state, int device, unsigned profile, int start, unsigned id);
/* Whether all partitions of the other devices of its group share what `profile` asks them to. */
bool sim_group_agrees(const struct sim_state *state, int device, const struct sim_profile *profile);
/* By what number an Ascend chip's partition is known on the whole server, and what it is called for that. */
unsigned sim_vnpu_number(const struct sim_state *state, int device, unsigned id);
int sim_partition_destroy(struct sim_state *state, int device, unsigned instance);
bool sim_partitioned(const struct sim_state *state, int device);
/* What a pending MIG mode waits for; also brings back a lost device. -EBUSY: a process or an instance is on it. */
int sim_device_reset(struct sim_state *state, int device);
/* Lay the device out: all partitions of that layout are there and no others; empty, or a layout of one partition over all slots:
 * whole. -EBUSY: a process is on it, or partitions that were made one by one; -EXDEV: partitioned devices of its group share
 * something else; -EINVAL: no such layout. */
int sim_layout_set(struct sim_state *state, int device, const char *layout);
/* Lay all devices of its group out alike, whatever they shared before. -EBUSY: a process is on one of them. */
int sim_group_layout_set(struct sim_state *state, int device, const char *layout);
/* Its layout, empty while it has none. */
const char *sim_layout_of(const struct sim_state *state, int device);
/* All partitions go but an Ascend chip's, and every device is as the description has it; MIG mode stays. -EBUSY: a process is
 * on a device. */
int sim_node_reboot(struct sim_state *state);

/* --- Partitions that live as long as a process: hold.c ------------------------------------------------------------------- */

/* A partition that is there as long as this process is, wherever on the device it fits: where its slots are interchangeable,
 * those of others move together for it. Returns what sim_partition_create does; the process must be registered. */
int sim_hold(struct sim_state *state, int device, unsigned profile);
/* For who makes an instance: what its `holder` is to be. */
int32_t sim_holding(void);
/* The process is gone: what it held goes with the next sim_hold_sweep that finds nobody inside. */
void sim_hold_orphan(struct sim_state *state, int process);
void sim_hold_sweep(struct sim_state *state);

/* --- Health: health.c ---------------------------------------------------------------------------------------------------- */

/* Before a call about the device, without the lock: takes as long as the device hangs. -ENODEV: it fell off the bus. */
int sim_device_reach(int device);
void sim_finding_post(struct sim_state *state, int device, const char *kind, unsigned code);
/* The first finding after number `after`; false: none yet. */
bool sim_finding_next(const struct sim_state *state, uint64_t after, struct sim_finding *finding);
unsigned sim_device_temperature_c(struct sim_state *state, int device);

/* The tile or virtual function of an Intel device called so, which is laid out in tiles for that: confine.c. -ENODEV: none;
 * -EBUSY: others use the device in another way. */
int sim_confine(struct sim_state *state, const char *name, struct sim_place *place);
/* A device laid out in tiles that nobody uses is whole again. */
void sim_unconfine(struct sim_state *state, const char *uuid);

/* Enter this process at the device or partition called `uuid`, with memory of its own there. -EBUSY: the device is partitioned. */
int sim_occupy(const char *uuid, uint64_t bytes);

/* --- Control from outside: control.c ----------------------------------------------------------------------------------- */

/* Do what the text says, as a person or a fault would; the verbs stand in control.c. Returns 0 or a negated errno; `answer`
 * has what was made, or why not. */
SIM_PUBLIC int mica_sim_control(const char *command, char *answer, size_t n);

/* --- Books ----------------------------------------------------------------------------------------------------------- */

/* For readers: use the node in `directory` instead of $MICA_SIM_DIR. Once per process; -EALREADY for a second directory. */
SIM_PUBLIC int mica_sim_open(const char *directory);

/* Everything the engine knows, as JSON. Returns the length without the terminator, as snprintf does (a result of n or
 * more means that the text was cut), or a negated errno. */
SIM_PUBLIC int mica_sim_books(char *json, size_t n);

#endif
