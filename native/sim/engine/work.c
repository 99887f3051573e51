/* SPDX-License-Identifier: Apache-2.0
 *
 * A process's own work: what a kernel costs, queueing it, and waiting for it.
 *
 * Invariant: only its process appends to a lane, one call at a time; it needs the lock for nothing but a queue that seems
 * full. Whoever waits sleeps until its work can be done at the soonest, and then looks again.
 */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <time.h>

#include "engine.h"

#define NAP_NS 100000000ULL   /* look again at least so often: a neighbour that dies frees the device early */
#define NAP_MIN_NS 20000ULL   /* and not more often than so where the end cannot be told */
#define SAMPLE_NS 500000000ULL
#define COST_MAX_NS (3600ULL * 1000000000ULL)

/* --- What a kernel costs ------------------------------------------------------------------------------------------------- */

const struct sim_kernel_rule *sim_kernel_rule(const char *name)
{
    const struct sim_node *node = sim_node();
    for (unsigned i = 0; i < node->rule_count; i++)
        if (!fnmatch(node->rules[i].glob, name, 0))
            return &node->rules[i];
    return NULL;
}

static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
    return word ^ (word >> 31);
}

static uint64_t capped(unsigned __int128 ns)
{
    return ns > COST_MAX_NS ? COST_MAX_NS : (uint64_t)ns;
}

/* `ns` with an even deviation of at most noise_ppm. */
static uint64_t with_noise(uint64_t ns, const struct sim_kernel_rule *rule, uint64_t launch)
{
    if (!rule->noise_ppm)
        return ns;
    uint64_t seed = sim_node()->seed;
    for (const char *at = rule->glob; *at; at++)
        seed = (seed ^ (unsigned char)*at) * 0x100000001b3ULL;
    int64_t part_ppm = (int64_t)(mix(seed + launch * 0x9e3779b97f4a7c15ULL) % (2 * (uint64_t)rule->noise_ppm + 1)) - (int64_t)rule->noise_ppm;
    return (uint64_t)((__int128)ns * (1000000 + part_ppm) / 1000000);
}

uint64_t sim_kernel_cost_ns(const struct sim_kernel_rule *rule, const struct sim_grid *grid, uint64_t launch, uint32_t *multiprocessors)
{
    const struct sim_node *node = sim_node();
    const struct sim_kernel_rule plain = {.block_ns = node->block_ns};
    const struct sim_kernel_rule *at = rule ? rule : &plain;
    uint64_t wave = grid->resident_blocks * grid->multiprocessors;
    uint64_t waves = (grid->blocks - 1) / wave + 1;
    unsigned __int128 ns = (unsigned __int128)waves * at->block_ns + at->fixed_ns;
    if (at->grid_ns)
        ns += (unsigned __int128)grid->blocks * at->grid_ns * grid->all / grid->multiprocessors;
    *multiprocessors = grid->blocks < grid->multiprocessors && !at->grid_ns ? (uint32_t)grid->blocks : grid->multiprocessors;
    return with_noise(capped(ns), at, launch) + node->launch_ns;
}

/* --- Queueing ------------------------------------------------------------------------------------------------------------- */

static struct sim_channel *own_channel(struct sim_state *state, int account)
{
    return &state->channels[state->processes[sim_process_self()].accounts[account].channel];
}

static struct sim_timeline *timeline_of(struct sim_state *state, const struct sim_channel *channel)
{
    return sim_timeline_at(state, channel->device, channel->gpu_instance, channel->compute_instance);
}

int sim_lane_ensure(struct sim_state *state, struct sim_channel *channel, unsigned lane)
{
    if (channel->lanes[lane].ring)
        return 0;
    for (unsigned i = 0; i < SIM_RINGS_MAX; i++) {
        if (state->ring_taken[i])
            continue;
        state->ring_taken[i] = 1;
        SIM_STORE_ORDER();
        channel->lanes[lane].ring = i + 1;
        SIM_STORE_ORDER();
        channel->lanes_used |= 1u << lane;
        return 0;
    }
    return -EUSERS;
}

void sim_channel_forget(struct sim_state *state, struct sim_channel *channel)
{
    for (unsigned i = 0; i < SIM_LANES; i++) {
        if (channel->lanes[i].ring)
            state->ring_taken[channel->lanes[i].ring - 1] = 0;
        channel->lanes[i] = (struct sim_lane){0};
    }
    channel->lanes_used = channel->parts = 0;
}

static uint64_t completed_of(const struct sim_lane *lane)
{
    /* Acquire: pairs with the release in the timeline; the order's end is there. */
    return __atomic_load_n(&lane->completed, __ATOMIC_ACQUIRE);
}

/* Under the lock, once per lane or where the queue seems full: whether there is room after all. */
static bool make_room(int account, unsigned number)
{
    struct sim_state *state = sim_enter();
    struct sim_channel *channel = own_channel(state, account);
    struct sim_lane *lane = &channel->lanes[number];
    bool room = !sim_lane_ensure(state, channel, number);
    if (room && lane->submitted - lane->completed >= SIM_QUEUE_DEPTH) {
        sim_timeline_advance(state, timeline_of(state, channel), sim_now_ns());
        room = lane->submitted - lane->completed < SIM_QUEUE_DEPTH;
    }
    sim_leave(state);
    return room;
}

static void set_after(const struct sim_channel *channel, struct sim_order *order, const struct sim_position *after, unsigned own_lane)
{
    order->after_lanes = 0;
    for (uint32_t rest = after ? after->lanes & ~(1u << own_lane) : 0; rest; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest);
        if (completed_of(&channel->lanes[lane]) >= after->number[lane])
            continue;
        order->after[lane] = (uint32_t)after->number[lane];
        order->after_lanes |= 1u << lane;
    }
}

uint64_t sim_order_try(int account, unsigned number, uint64_t cost_ns, uint32_t multiprocessors, const struct sim_position *after)
{
    struct sim_state *state = sim_shared();
    struct sim_channel *channel = own_channel(state, account);
    struct sim_lane *lane = &channel->lanes[number];
    uint64_t submitted = lane->submitted;
    if ((!lane->ring || submitted - completed_of(lane) >= SIM_QUEUE_DEPTH) && !make_room(account, number))
        return 0;
    struct sim_order *ring = state->rings[lane->ring - 1].orders, *order = &ring[(submitted + 1) % SIM_RING];
    const struct sim_order *last = &ring[submitted % SIM_RING];
    order->cost_ns = cost_ns;
    order->sum_ns = (submitted ? last->sum_ns : 0) + cost_ns;
    order->sum_multiprocessor_ns = (submitted ? last->sum_multiprocessor_ns : 0) + cost_ns * multiprocessors;
    order->end_ns = 0;
    order->multiprocessors = multiprocessors;
    set_after(channel, order, after, number);
    order->submit_ns = sim_now_ns();
    /* Release: pairs with the acquire in the timeline; the order is whole. */
    __atomic_store_n(&lane->submitted, submitted + 1, __ATOMIC_RELEASE);
    return submitted + 1;
}

void sim_position_now(int account, struct sim_position *position)
{
    struct sim_channel *channel = own_channel(sim_shared(), account);
    *position = (struct sim_position){0};
    for (unsigned lane = 0; lane < SIM_LANES; lane++) {
        /* Acquire: pairs with the release in sim_order_try. */
        uint64_t submitted = __atomic_load_n(&channel->lanes[lane].submitted, __ATOMIC_ACQUIRE);
        if (submitted)
            sim_position_add(position, lane, submitted);
    }
}

void sim_order_wait_room(int account, unsigned number)
{
    uint64_t submitted = own_channel(sim_shared(), account)->lanes[number].submitted;
    struct sim_position position = {0};
    if (submitted < SIM_QUEUE_DEPTH)
        return;
    sim_position_add(&position, number, submitted - SIM_QUEUE_DEPTH + 1);
    sim_position_wait(account, &position);
}

int sim_part_open(int account)
{
    struct sim_state *state = sim_enter();
    struct sim_channel *channel = own_channel(state, account);
    int lane = SIM_LANE_PARTS;
    while (lane < SIM_LANES && channel->parts >> lane & 1)
        lane++;
    if (lane == SIM_LANES || sim_lane_ensure(state, channel, (unsigned)lane))
        lane = -EUSERS;
    else
        channel->parts |= 1u << lane;
    sim_leave(state);
    return lane;
}

void sim_part_close(int account, unsigned lane)
{
    struct sim_state *state = sim_enter();
    own_channel(state, account)->parts &= ~(1u << lane);
    sim_leave(state);
}

/* --- Waiting -------------------------------------------------------------------------------------------------------------- */

bool sim_position_passed(int account, const struct sim_position *position)
{
    const struct sim_channel *channel = own_channel(sim_shared(), account);
    for (uint32_t rest = position->lanes; rest; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest);
        if (completed_of(&channel->lanes[lane]) < position->number[lane])
            return false;
    }
    return true;
}

static uint64_t end_of(const struct sim_state *state, const struct sim_channel *channel, const struct sim_position *position)
{
    uint64_t end_ns = 0;
    for (uint32_t rest = position->lanes; rest; rest &= rest - 1) {
        const struct sim_lane *lane = &channel->lanes[__builtin_ctz(rest)];
        uint64_t number = position->number[__builtin_ctz(rest)];
        if (!number || lane->submitted - number >= SIM_RING)
            continue;
        uint64_t own_ns = state->rings[lane->ring - 1].orders[number % SIM_RING].end_ns;
        end_ns = own_ns > end_ns ? own_ns : end_ns;
    }
    return end_ns;
}

bool sim_position_done(int account, const struct sim_position *position, uint64_t *end_ns)
{
    struct sim_state *state = sim_shared();
    bool done = sim_position_passed(account, position);
    if (!done) {
        sim_enter();
        sim_timeline_advance(state, timeline_of(state, own_channel(state, account)), sim_now_ns());
        sim_leave(state);
        done = sim_position_passed(account, position);
    }
    if (done && end_ns)
        *end_ns = end_of(state, own_channel(state, account), position);
    return done;
}

/* How much of the lane's work is left up to `number`, in ns at full speed. */
static uint64_t left_until(const struct sim_state *state, const struct sim_lane *lane, uint64_t number)
{
    if (lane->completed >= number)
        return 0;
    const struct sim_order *orders = state->rings[lane->ring - 1].orders;
    uint64_t left_ns = orders[number % SIM_RING].sum_ns - (lane->completed ? orders[lane->completed % SIM_RING].sum_ns : 0);
    if (lane->started != lane->completed + 1)
        return left_ns;
    uint64_t done_ns = orders[lane->started % SIM_RING].cost_ns - lane->left[lane->progress & 1] / SIM_FRACTION;
    return left_ns > done_ns ? left_ns - done_ns : 0;
}

/* The same with the order at the head waiting for other lanes first. */
static uint64_t lane_left(const struct sim_state *state, const struct sim_channel *channel, unsigned number, uint64_t until)
{
    const struct sim_lane *lane = &channel->lanes[number];
    uint64_t before_ns = 0;
    if (lane->completed >= until)
        return 0;
    const struct sim_order *head = &state->rings[lane->ring - 1].orders[(lane->completed + 1) % SIM_RING];
    for (uint32_t rest = head->after_lanes; rest; rest &= rest - 1) {
        const struct sim_lane *other = &channel->lanes[__builtin_ctz(rest)];
        int32_t ahead = (int32_t)(head->after[__builtin_ctz(rest)] - (uint32_t)other->completed);
        uint64_t other_ns = ahead > 0 ? left_until(state, other, other->completed + (uint32_t)ahead) : 0;
        before_ns = other_ns > before_ns ? other_ns : before_ns;
    }
    return before_ns + left_until(state, lane, until);
}

uint64_t sim_position_soonest_ns(int account, const struct sim_position *position)
{
    if (sim_position_passed(account, position))
        return 0;
    struct sim_state *state = sim_enter();
    struct sim_channel *channel = own_channel(state, account);
    struct sim_timeline *timeline = timeline_of(state, channel);
    if (timeline->member_count > 1)
        sim_process_sweep(state);
    uint64_t now_ns = sim_now_ns(), left_ns = 0;
    sim_timeline_advance(state, timeline, now_ns);
    bool passed = sim_position_passed(account, position);
    for (uint32_t rest = position->lanes; rest; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest);
        uint64_t own_ns = lane_left(state, channel, lane, position->number[lane]);
        left_ns = own_ns > left_ns ? own_ns : left_ns;
    }
    uint64_t until_ns = (timeline->clock >> 1) + left_ns;
    if (position->lanes & ~SIM_COPY_LANES)
        until_ns += sim_timeline_ahead_ns(state, timeline, (int)(channel - state->channels));
    sim_leave(state);
    if (passed)
        return 0;
    return until_ns <= now_ns ? now_ns + NAP_MIN_NS : until_ns < now_ns + NAP_NS ? until_ns : now_ns + NAP_NS;
}

void sim_position_wait(int account, const struct sim_position *position)
{
    for (uint64_t until_ns; (until_ns = sim_position_soonest_ns(account, position));) {
        struct timespec until = {(time_t)(until_ns / 1000000000ULL), (long)(until_ns % 1000000000ULL)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
    }
}

/* --- Utilisation -------------------------------------------------------------------------------------------------------- */

static uint64_t device_busy_ns(struct sim_state *state, int device, uint64_t now_ns)
{
    struct sim_device *at = &state->devices[device];
    sim_timeline_catch_up(state, &at->timeline, now_ns);
    uint64_t busy_ns = sim_timeline_busy_ns(&at->timeline);
    for (int g = 0; g < SIM_INSTANCES_MAX; g++)
        for (int c = 0; c < SIM_COMPUTE_MAX; c++)
            if (at->instances[g].live && at->instances[g].compute[c].live) {
                sim_timeline_catch_up(state, &at->instances[g].compute[c].timeline, now_ns);
                busy_ns += sim_timeline_busy_ns(&at->instances[g].compute[c].timeline);
            }
    return busy_ns;
}

unsigned sim_device_busy_ppm(struct sim_state *state, int device, uint64_t now_ns)
{
    struct sim_timeline *marks = &state->devices[device].timeline;
    uint64_t busy_ns = device_busy_ns(state, device, now_ns);
    if (now_ns - marks->sample_ns[1] >= SAMPLE_NS) {
        marks->sample_ns[0] = marks->sample_ns[1];
        marks->sample_busy_ns[0] = marks->sample_busy_ns[1];
        marks->sample_ns[1] = now_ns;
        marks->sample_busy_ns[1] = busy_ns;
    }
    uint64_t window_ns = now_ns - marks->sample_ns[0];
    uint64_t part_ns = busy_ns > marks->sample_busy_ns[0] ? busy_ns - marks->sample_busy_ns[0] : 0;
    if (!window_ns)
        return 0;
    uint64_t ppm = (uint64_t)((double)part_ns * 1e6 / (double)window_ns);
    return ppm > 1000000 ? 1000000 : (unsigned)ppm;
}
