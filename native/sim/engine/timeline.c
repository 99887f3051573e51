/* SPDX-License-Identifier: Apache-2.0
 *
 * What runs when. Processes take turns of `timeslice_ns` on a device's multiprocessors, in a circle; a kernel longer than
 * that is stopped and goes on later. Clients of MPS take one turn together and run side by side. `timeslice_ns` 0: one
 * process's kernel after another's to its end, strictly in order of submission. Copies have an engine for each direction.
 *
 * Within a turn every lane runs its oldest order, but an urgent kernel goes before the process's other ones. Kernels that
 * ask for more multiprocessors together than there are get their part of each, and take as much longer.
 *
 * Invariant: the schedule is a function of the submissions alone. It is decided lazily, by whoever looks, up to the
 * present, event by event; between two events nothing is written, so it does not matter who looks or when. (An order that
 * becomes visible only after somebody else decided past its submission counts as submitted when it was first seen.)
 */
#include <string.h>

#include "engine.h"

#define NEVER UINT64_MAX
#define RUNNABLE_MAX (2 * SIM_CHANNELS_MAX) /* more wait unseen until some of these are done */

static struct sim_order *order_at(const struct sim_state *state, const struct sim_lane *lane, uint64_t number)
{
    return (struct sim_order *)&state->rings[lane->ring - 1].orders[number % SIM_RING];
}

struct sim_timeline *sim_timeline_at(struct sim_state *state, int device, int gpu_instance, int compute_instance)
{
    if (gpu_instance < 0)
        return &state->devices[device].timeline;
    return &state->devices[device].instances[gpu_instance].compute[compute_instance].timeline;
}

void sim_timeline_clear(struct sim_timeline *timeline)
{
    memset(timeline, 0, sizeof *timeline);
    timeline->turn = SIM_TURN_NOBODY;
    for (int e = 0; e < SIM_ENGINES; e++)
        timeline->engine[e] = -1;
}

/* --- Who could run ------------------------------------------------------------------------------------------------------ */

/* The lanes that can run at the timeline's clock, and what decides about them. */
struct choice {
    unsigned count;
    struct running {
        uint16_t channel, lane;
        bool selected;
    } lanes[RUNNABLE_MAX];
    uint64_t next_ns; /* when the next order is submitted */
};

static bool waits(const struct sim_channel *channel, const struct sim_order *order)
{
    for (uint32_t rest = order->after_lanes; rest; rest &= rest - 1) {
        unsigned lane = (unsigned)__builtin_ctz(rest);
        if ((int32_t)(order->after[lane] - (uint32_t)channel->lanes[lane].completed) > 0)
            return true;
    }
    return false;
}

static bool is_copy(unsigned lane)
{
    return lane >= SIM_LANE_TO_DEVICE && lane <= SIM_LANE_ON_DEVICE;
}

static void look(const struct sim_state *state, const struct sim_timeline *timeline, struct choice *choice)
{
    uint64_t clock_ns = timeline->clock >> 1;
    choice->count = 0;
    choice->next_ns = NEVER;
    for (unsigned m = 0; m < timeline->member_count; m++) {
        const struct sim_channel *channel = &state->channels[timeline->members[m]];
        for (uint32_t rest = channel->lanes_used; rest; rest &= rest - 1) {
            unsigned number = (unsigned)__builtin_ctz(rest);
            const struct sim_lane *lane = &channel->lanes[number];
            /* Acquire: pairs with the release in sim_order_try; the order is whole. */
            if (lane->completed >= __atomic_load_n(&lane->submitted, __ATOMIC_ACQUIRE))
                continue;
            const struct sim_order *order = order_at(state, lane, lane->completed + 1);
            if (order->submit_ns > clock_ns) {
                if (order->submit_ns < choice->next_ns)
                    choice->next_ns = order->submit_ns;
                continue;
            }
            if (!waits(channel, order) && choice->count < RUNNABLE_MAX)
                choice->lanes[choice->count++] = (struct running){timeline->members[m], (uint16_t)number, false};
        }
    }
}

/* --- Whose turn it is ---------------------------------------------------------------------------------------------------- */

static int group_of(const struct sim_state *state, unsigned channel)
{
    return state->channels[channel].mps ? SIM_TURN_MPS : (int)channel;
}

static bool has_started(const struct sim_lane *lane)
{
    return lane->started == lane->completed + 1;
}

/* In order of submission: who has begun goes on, else who was first. */
static int oldest_group(const struct sim_state *state, const struct choice *choice)
{
    int best = SIM_TURN_NOBODY;
    uint64_t best_ns = NEVER;
    for (unsigned i = 0; i < choice->count; i++) {
        const struct running *at = &choice->lanes[i];
        const struct sim_lane *lane = &state->channels[at->channel].lanes[at->lane];
        if (is_copy(at->lane))
            continue;
        uint64_t rank_ns = has_started(lane) ? 0 : order_at(state, lane, lane->completed + 1)->submit_ns;
        if (best == SIM_TURN_NOBODY || rank_ns < best_ns) {
            best = group_of(state, at->channel);
            best_ns = rank_ns;
        }
    }
    return best;
}

/* The next group in the circle that has a kernel to run. Members are ordered by when they came. */
static int next_group(const struct sim_state *state, const struct sim_timeline *timeline, const struct choice *choice)
{
    unsigned from = 0;
    for (unsigned m = 0; m < timeline->member_count; m++)
        if (timeline->members[m] == timeline->turn || (timeline->turn == SIM_TURN_MPS && state->channels[timeline->members[m]].mps && !from))
            from = m + 1;
    for (unsigned m = 0; m < timeline->member_count; m++) {
        unsigned channel = timeline->members[(from + m) % timeline->member_count];
        for (unsigned i = 0; i < choice->count; i++)
            if (choice->lanes[i].channel == channel && !is_copy(choice->lanes[i].lane) && group_of(state, channel) != timeline->turn)
                return group_of(state, channel);
    }
    return timeline->turn;
}

/* Decide whose turn it is at the timeline's clock. Returns when that has to be decided again, unless something happens. */
static uint64_t take_turns(const struct sim_state *state, struct sim_timeline *timeline, const struct choice *choice)
{
    uint64_t clock_ns = timeline->clock >> 1;
    bool ours = false, others = false;
    for (unsigned i = 0; i < choice->count; i++) {
        if (is_copy(choice->lanes[i].lane))
            continue;
        bool same = group_of(state, choice->lanes[i].channel) == timeline->turn;
        ours = ours || same;
        others = others || !same;
    }
    if (!state->node.timeslice_ns) {
        timeline->turn = oldest_group(state, choice);
        return NEVER;
    }
    if (others && (!ours || clock_ns >= timeline->turn_end_ns)) {
        int next = next_group(state, timeline, choice);
        timeline->turn_end_ns = clock_ns + state->node.timeslice_ns;
        SIM_STORE_ORDER();
        timeline->turn = next;
        /* Whether someone else waits now that the turn has passed on. */
        others = ours;
        for (unsigned i = 0; i < choice->count && !others; i++)
            others = !is_copy(choice->lanes[i].lane) && group_of(state, choice->lanes[i].channel) != next;
    }
    return others ? timeline->turn_end_ns : NEVER;
}

/* --- What runs ------------------------------------------------------------------------------------------------------------ */

/* The urgent lane of a channel keeps its compute lane waiting. */
static bool gives_way(const struct choice *choice, const struct running *at)
{
    if (at->lane != SIM_LANE_COMPUTE)
        return false;
    for (unsigned i = 0; i < choice->count; i++)
        if (choice->lanes[i].channel == at->channel && choice->lanes[i].lane == SIM_LANE_URGENT)
            return true;
    return false;
}

/* An engine goes on with the copy it has begun, else takes the one that was submitted first. */
static void select_copy(const struct sim_state *state, struct sim_timeline *timeline, struct choice *choice, unsigned engine)
{
    struct running *best = NULL;
    uint64_t best_ns = NEVER;
    for (unsigned i = 0; i < choice->count; i++) {
        struct running *at = &choice->lanes[i];
        const struct sim_lane *lane = &state->channels[at->channel].lanes[at->lane];
        if (at->lane != SIM_LANE_TO_DEVICE + engine)
            continue;
        uint64_t rank_ns = timeline->engine[engine] == at->channel && has_started(lane) ? 0 : order_at(state, lane, lane->completed + 1)->submit_ns;
        if (!best || rank_ns < best_ns) {
            best = at;
            best_ns = rank_ns;
        }
    }
    if (best)
        best->selected = true;
    timeline->engine[engine] = best ? best->channel : -1;
}

/* Mark what runs, and return how many multiprocessors its kernels ask for together. */
static uint64_t select_running(const struct sim_state *state, struct sim_timeline *timeline, struct choice *choice)
{
    uint64_t asked = 0;
    for (unsigned i = 0; i < choice->count; i++) {
        struct running *at = &choice->lanes[i];
        if (is_copy(at->lane) || group_of(state, at->channel) != timeline->turn || gives_way(choice, at))
            continue;
        const struct sim_lane *lane = &state->channels[at->channel].lanes[at->lane];
        at->selected = true;
        asked += order_at(state, lane, lane->completed + 1)->multiprocessors;
    }
    for (unsigned engine = 0; engine < SIM_ENGINES; engine++)
        select_copy(state, timeline, choice, engine);
    return asked;
}

/* The share of its full speed at which a kernel runs: there / asked, at most 1. */
struct speed {
    uint64_t there, asked;
};

static struct speed speed_of(const struct sim_state *state, const struct choice *choice, uint64_t asked)
{
    if (!choice->count)
        return (struct speed){1, 1};
    const struct sim_channel *channel = &state->channels[choice->lanes[0].channel];
    struct sim_place place = {channel->device, channel->gpu_instance, channel->compute_instance};
    uint64_t there = sim_place_multiprocessors(state, place);
    return asked > there ? (struct speed){there, asked} : (struct speed){1, 1};
}

static struct speed lane_speed(unsigned lane, struct speed speed)
{
    return is_copy(lane) ? (struct speed){1, 1} : speed;
}

static uint64_t left_of(const struct sim_lane *lane)
{
    return lane->left[lane->progress & 1];
}

/* Both words at once: the new value goes into the slot that is not meant yet. */
static void set_left(struct sim_lane *lane, uint64_t left, uint64_t at_ns)
{
    unsigned slot = ~(unsigned)lane->progress & 1;
    lane->left[slot] = left;
    SIM_STORE_ORDER();
    lane->progress = at_ns << 1 | slot;
}

static uint64_t done_between(uint64_t from_ns, uint64_t to_ns, struct speed speed)
{
    return (uint64_t)((unsigned __int128)(to_ns - from_ns) * SIM_FRACTION * speed.there / speed.asked);
}

static void begin_selected(struct sim_state *state, const struct sim_timeline *timeline, const struct choice *choice)
{
    for (unsigned i = 0; i < choice->count; i++) {
        struct sim_lane *lane = &state->channels[choice->lanes[i].channel].lanes[choice->lanes[i].lane];
        if (!choice->lanes[i].selected || has_started(lane))
            continue;
        /* Not before the last one ended: who ended it may have been killed before the clock moved on. */
        uint64_t clock_ns = timeline->clock >> 1, last_ns = lane->completed ? order_at(state, lane, lane->completed)->end_ns : 0;
        set_left(lane, order_at(state, lane, lane->completed + 1)->cost_ns * SIM_FRACTION, last_ns > clock_ns ? last_ns : clock_ns);
        SIM_STORE_ORDER();
        lane->started = lane->completed + 1;
    }
}

static uint64_t first_end_ns(const struct sim_state *state, const struct sim_timeline *timeline, const struct choice *choice, struct speed speed)
{
    uint64_t first_ns = NEVER;
    for (unsigned i = 0; i < choice->count; i++) {
        const struct running *at = &choice->lanes[i];
        if (!at->selected)
            continue;
        struct speed own = lane_speed(at->lane, speed);
        unsigned __int128 per_ns = (unsigned __int128)SIM_FRACTION * own.there;
        uint64_t left = left_of(&state->channels[at->channel].lanes[at->lane]);
        uint64_t end_ns = (timeline->clock >> 1) + (uint64_t)(((unsigned __int128)left * own.asked + per_ns - 1) / per_ns);
        first_ns = end_ns < first_ns ? end_ns : first_ns;
    }
    return first_ns;
}

/* Let everything selected run up to `to_ns`, and end what is done then. */
static void run_until(struct sim_state *state, struct sim_timeline *timeline, const struct choice *choice, struct speed speed, uint64_t to_ns)
{
    uint64_t from_ns = timeline->clock >> 1;
    bool kernels = false;
    for (unsigned i = 0; i < choice->count; i++) {
        const struct running *at = &choice->lanes[i];
        struct sim_lane *lane = &state->channels[at->channel].lanes[at->lane];
        if (!at->selected)
            continue;
        kernels = kernels || !is_copy(at->lane);
        uint64_t since_ns = lane->progress >> 1 > from_ns ? lane->progress >> 1 : from_ns;
        uint64_t done = to_ns > since_ns ? done_between(since_ns, to_ns, lane_speed(at->lane, speed)) : 0;
        uint64_t left = left_of(lane);
        set_left(lane, left > done ? left - done : 0, to_ns);
        if (left > done)
            continue;
        order_at(state, lane, lane->started)->end_ns = to_ns;
        /* Release: pairs with the acquire in sim_position_done; the end is there. */
        __atomic_store_n(&lane->completed, lane->started, __ATOMIC_RELEASE);
    }
    unsigned slot = ~(unsigned)timeline->clock & 1;
    timeline->busy_ns[slot] = timeline->busy_ns[timeline->clock & 1] + (kernels ? to_ns - from_ns : 0);
    SIM_STORE_ORDER();
    timeline->clock = to_ns << 1 | slot;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What runs at the clock, until when nothing changes, and how fast. */
static uint64_t decide(struct sim_state *state, struct sim_timeline *timeline, struct choice *choice, struct speed *speed)
{
    look(state, timeline, choice);
    uint64_t turn_ns = take_turns(state, timeline, choice);
    *speed = speed_of(state, choice, select_running(state, timeline, choice));
    begin_selected(state, timeline, choice);
    return earlier(earlier(choice->next_ns, turn_ns), first_end_ns(state, timeline, choice, *speed));
}

void sim_timeline_advance(struct sim_state *state, struct sim_timeline *timeline, uint64_t now_ns)
{
    struct choice choice;
    struct speed speed;
    while (timeline->clock >> 1 < now_ns) {
        uint64_t event_ns = decide(state, timeline, &choice, &speed);
        if (event_ns >= now_ns) /* an event of this very moment may still get company */
            return;
        run_until(state, timeline, &choice, speed, event_ns);
    }
}

void sim_timeline_catch_up(struct sim_state *state, struct sim_timeline *timeline, uint64_t now_ns)
{
    struct choice choice;
    struct speed speed;
    sim_timeline_advance(state, timeline, now_ns);
    if (timeline->clock >> 1 < now_ns) {
        decide(state, timeline, &choice, &speed);
        run_until(state, timeline, &choice, speed, now_ns);
    }
}

uint64_t sim_timeline_busy_ns(const struct sim_timeline *timeline)
{
    return timeline->busy_ns[timeline->clock & 1];
}

/* Kernels that a channel has queued, in ns at full speed. */
static uint64_t queued_ns(const struct sim_state *state, const struct sim_channel *channel)
{
    uint64_t sum_ns = 0;
    for (uint32_t rest = channel->lanes_used & ~SIM_COPY_LANES; rest; rest &= rest - 1) {
        const struct sim_lane *lane = &channel->lanes[__builtin_ctz(rest)];
        uint64_t submitted = __atomic_load_n(&lane->submitted, __ATOMIC_ACQUIRE);
        if (submitted == lane->completed)
            continue;
        uint64_t own_ns = order_at(state, lane, submitted)->sum_ns - (lane->completed ? order_at(state, lane, lane->completed)->sum_ns : 0);
        uint64_t done_ns = has_started(lane) ? order_at(state, lane, lane->started)->cost_ns - left_of(lane) / SIM_FRACTION : 0;
        sum_ns += own_ns > done_ns ? own_ns - done_ns : 0;
    }
    return sum_ns;
}

uint64_t sim_timeline_ahead_ns(const struct sim_state *state, const struct sim_timeline *timeline, int index)
{
    uint64_t clock_ns = timeline->clock >> 1, slice_ns = state->node.timeslice_ns, sum_ns = 0;
    unsigned from = 0;
    if (!slice_ns || state->channels[index].mps || timeline->turn < 0 || timeline->turn == index)
        return 0;
    while (from < timeline->member_count && timeline->members[from] != timeline->turn)
        from++;
    for (unsigned m = 0; m < timeline->member_count; m++) {
        unsigned at = timeline->members[(from + m) % timeline->member_count];
        if ((int)at == index)
            break;
        uint64_t own_ns = queued_ns(state, &state->channels[at]);
        uint64_t most_ns = m ? slice_ns : timeline->turn_end_ns > clock_ns ? timeline->turn_end_ns - clock_ns : 0;
        if (!state->channels[at].mps)
            sum_ns += own_ns < most_ns ? own_ns : most_ns;
    }
    return sum_ns;
}

/* Stop what a dead process had under way: it is accounted for as far as it got. */
static void cut(struct sim_state *state, struct sim_lane *lane)
{
    if (lane->ring && has_started(lane)) {
        struct sim_order *order = order_at(state, lane, lane->started);
        uint64_t unpaid_ns = left_of(lane) / SIM_FRACTION;
        order->end_ns = lane->progress >> 1;
        order->sum_ns -= unpaid_ns;
        order->sum_multiprocessor_ns -= unpaid_ns * order->multiprocessors;
        SIM_STORE_ORDER();
        lane->completed = lane->started;
    }
    lane->submitted = lane->completed;
}

void sim_channel_drop(struct sim_state *state, int index, uint64_t now_ns)
{
    struct sim_channel *channel = &state->channels[index];
    if (!channel->live)
        return;
    struct sim_timeline *timeline = sim_timeline_at(state, channel->device, channel->gpu_instance, channel->compute_instance);
    sim_timeline_catch_up(state, timeline, now_ns);
    for (unsigned i = 0; i < SIM_LANES; i++)
        cut(state, &channel->lanes[i]);
    unsigned kept = 0;
    for (unsigned i = 0; i < timeline->member_count; i++)
        if (timeline->members[i] != index)
            timeline->members[kept++] = timeline->members[i];
    timeline->member_count = kept;
    if (timeline->turn == index)
        timeline->turn = SIM_TURN_NOBODY;
    SIM_STORE_ORDER();
    channel->live = 0;
}

/* --- What was done ------------------------------------------------------------------------------------------------------- */

static struct sim_done lane_done(const struct sim_state *state, const struct sim_lane *lane)
{
    struct sim_done done = {.completed = lane->completed};
    if (!lane->ring)
        return done;
    if (lane->completed) {
        done.ns = order_at(state, lane, lane->completed)->sum_ns;
        done.multiprocessor_ns = order_at(state, lane, lane->completed)->sum_multiprocessor_ns;
    }
    if (has_started(lane)) {
        const struct sim_order *order = order_at(state, lane, lane->started);
        uint64_t part_ns = order->cost_ns - left_of(lane) / SIM_FRACTION;
        done.ns += part_ns;
        done.multiprocessor_ns += part_ns * order->multiprocessors;
    }
    return done;
}

struct sim_done sim_channel_done(const struct sim_state *state, const struct sim_channel *channel, bool copies)
{
    struct sim_done sum = {0};
    for (unsigned i = 0; i < SIM_LANES; i++) {
        if (is_copy(i) != copies)
            continue;
        struct sim_done done = lane_done(state, &channel->lanes[i]);
        sum.ns += done.ns;
        sum.multiprocessor_ns += done.multiprocessor_ns;
        sum.completed += done.completed;
        sum.submitted += __atomic_load_n(&channel->lanes[i].submitted, __ATOMIC_RELAXED);
    }
    return sum;
}
