/* SPDX-License-Identifier: Apache-2.0
 *
 * What runs when. A timeline executes one kernel at a time and never stops one half-way. Launches of a process run in
 * order of submission; processes take turns of `timeslice_ns` (0: all launches strictly in order of submission).
 *
 * Invariant: the schedule is a function of the submissions alone. It is decided lazily, by whoever looks, up to the
 * present; a decision at time t uses only launches submitted by t, so it does not matter who looks or when.
 */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <time.h>

#include "engine.h"

#define NAP_NS 100000000ULL /* look again at least so often: a neighbour that dies frees the device early */
#define SAMPLE_NS 500000000ULL

static struct sim_launch *launch_at(struct sim_channel *channel, uint64_t number)
{
    return &channel->ring[number % SIM_RING];
}

static uint64_t sum_at(const struct sim_channel *channel, uint64_t number)
{
    return number ? channel->ring[number % SIM_RING].sum_ns : 0;
}

uint64_t sim_channel_kernel_ns(const struct sim_channel *channel)
{
    return sum_at(channel, channel->completed);
}

struct sim_timeline *sim_timeline_at(struct sim_state *state, int device, int gpu_instance, int compute_instance)
{
    if (gpu_instance < 0)
        return &state->devices[device].timeline;
    return &state->devices[device].instances[gpu_instance].compute[compute_instance].timeline;
}

static bool pending(const struct sim_channel *channel)
{
    return channel->completed < channel->submitted;
}

static uint64_t head_submit_ns(const struct sim_channel *channel)
{
    return channel->ring[(channel->completed + 1) % SIM_RING].submit_ns;
}

/* Member whose head was submitted first, or -1 when nothing waits. */
static int earliest(const struct sim_state *state, const struct sim_timeline *timeline)
{
    int best = -1;
    for (unsigned i = 0; i < timeline->member_count; i++) {
        const struct sim_channel *channel = &state->channels[timeline->members[i]];
        if (pending(channel) && (best < 0 || head_submit_ns(channel) < head_submit_ns(&state->channels[best])))
            best = timeline->members[i];
    }
    return best;
}

static bool ready(const struct sim_state *state, int channel, uint64_t at_ns)
{
    return channel >= 0 && pending(&state->channels[channel]) && head_submit_ns(&state->channels[channel]) <= at_ns;
}

/* Whose turn it is at `at_ns`: the current one within its time slice, else the next in the circle. */
static int next_turn(const struct sim_state *state, struct sim_timeline *timeline, uint64_t at_ns, int first)
{
    if (!state->node.timeslice_ns)
        return first;
    if (ready(state, timeline->current, at_ns) && timeline->turn_ns < state->node.timeslice_ns)
        return timeline->current;
    unsigned from = 0;
    for (unsigned i = 0; i < timeline->member_count; i++)
        if (timeline->members[i] == timeline->current)
            from = i + 1;
    for (unsigned i = 0; i < timeline->member_count; i++) {
        int channel = timeline->members[(from + i) % timeline->member_count];
        if (ready(state, channel, at_ns)) {
            timeline->turn_ns = 0;
            return channel;
        }
    }
    return first;
}

static bool start_next(struct sim_state *state, struct sim_timeline *timeline)
{
    int first = earliest(state, timeline);
    if (first < 0)
        return false;
    uint64_t submit_ns = head_submit_ns(&state->channels[first]);
    uint64_t at_ns = submit_ns > timeline->clock_ns ? submit_ns : timeline->clock_ns;
    int chosen = next_turn(state, timeline, at_ns, first);
    struct sim_channel *channel = &state->channels[chosen];
    timeline->current = chosen;
    timeline->running_sequence = channel->completed + 1;
    timeline->running_start_ns = at_ns;
    timeline->running_end_ns = at_ns + launch_at(channel, channel->completed + 1)->cost_ns;
    SIM_STORE_ORDER();
    timeline->running = chosen;
    return true;
}

static void finish_running(struct sim_state *state, struct sim_timeline *timeline)
{
    struct sim_channel *channel = &state->channels[timeline->running];
    uint64_t cost_ns = timeline->running_end_ns - timeline->running_start_ns;
    launch_at(channel, timeline->running_sequence)->end_ns = timeline->running_end_ns;
    SIM_STORE_ORDER();
    channel->completed = timeline->running_sequence;
    SIM_STORE_ORDER();
    timeline->clock_ns = timeline->running_end_ns;
    timeline->running = -1;
    timeline->busy_ns += cost_ns;
    timeline->turn_ns += cost_ns;
}

void sim_timeline_advance(struct sim_state *state, struct sim_timeline *timeline, uint64_t now_ns)
{
    for (;;) {
        if (timeline->running < 0 && !start_next(state, timeline))
            return;
        if (timeline->running_end_ns > now_ns)
            return;
        finish_running(state, timeline);
    }
}

uint64_t sim_timeline_busy_ns(const struct sim_timeline *timeline, uint64_t now_ns)
{
    uint64_t part_ns = timeline->running >= 0 && now_ns > timeline->running_start_ns ? now_ns - timeline->running_start_ns : 0;
    return timeline->busy_ns + part_ns;
}

/* Cut the kernel that a dead process left on the device: it is accounted for as far as it got. */
static void cut_running(struct sim_timeline *timeline, struct sim_channel *channel, uint64_t now_ns)
{
    struct sim_launch *launch = launch_at(channel, timeline->running_sequence);
    uint64_t part_ns = now_ns > timeline->running_start_ns ? now_ns - timeline->running_start_ns : 0;
    launch->sum_ns = sum_at(channel, channel->completed) + part_ns;
    launch->end_ns = now_ns;
    SIM_STORE_ORDER();
    channel->completed = timeline->running_sequence;
    timeline->clock_ns = timeline->running_end_ns = now_ns;
    timeline->busy_ns += part_ns;
    timeline->running = -1;
}

void sim_channel_drop(struct sim_state *state, int index, uint64_t now_ns)
{
    struct sim_channel *channel = &state->channels[index];
    if (!channel->live)
        return;
    struct sim_timeline *timeline = sim_timeline_at(state, channel->device, channel->gpu_instance, channel->compute_instance);
    sim_timeline_advance(state, timeline, now_ns);
    if (timeline->running == index)
        cut_running(timeline, channel, now_ns);
    channel->submitted = channel->completed;
    unsigned kept = 0;
    for (unsigned i = 0; i < timeline->member_count; i++)
        if (timeline->members[i] != index)
            timeline->members[kept++] = timeline->members[i];
    timeline->member_count = kept;
    if (timeline->current == index)
        timeline->current = -1;
    SIM_STORE_ORDER();
    channel->live = 0;
}

/* --- For the process that owns the channel ----------------------------------------------------------------------------- */

static struct sim_account *own_account(struct sim_state *state, int account)
{
    return &state->processes[sim_process_self()].accounts[account];
}

static struct sim_channel *own_channel(struct sim_state *state, int account)
{
    return &state->channels[own_account(state, account)->channel];
}

static struct sim_timeline *timeline_of(struct sim_state *state, const struct sim_channel *channel)
{
    return sim_timeline_at(state, channel->device, channel->gpu_instance, channel->compute_instance);
}

uint64_t sim_kernel_block_ns(const char *name)
{
    const struct sim_node *node = sim_node();
    for (unsigned i = 0; i < node->rule_count; i++)
        if (!fnmatch(node->rules[i].glob, name, 0))
            return node->rules[i].block_ns;
    return node->block_ns;
}

uint64_t sim_launch_try(int index, uint64_t cost_ns)
{
    struct sim_state *state = sim_enter();
    struct sim_channel *channel = own_channel(state, index);
    struct sim_timeline *timeline = timeline_of(state, channel);
    uint64_t now_ns = sim_now_ns(), number = 0;
    sim_timeline_advance(state, timeline, now_ns);
    if (channel->submitted - channel->completed < SIM_QUEUE_DEPTH) {
        number = channel->submitted + 1;
        *launch_at(channel, number) = (struct sim_launch){now_ns, cost_ns, sum_at(channel, channel->submitted) + cost_ns, 0};
        SIM_STORE_ORDER();
        channel->submitted = number;
        own_account(state, index)->launches++;
        state->devices[channel->device].totals.launches++;
        if (timeline->running < 0)
            sim_timeline_advance(state, timeline, now_ns);
    }
    sim_leave(state);
    return number;
}

void sim_launch_wait_room(int account)
{
    uint64_t newest = sim_launch_newest(account);
    if (newest >= SIM_QUEUE_DEPTH)
        sim_launch_wait(account, newest - SIM_QUEUE_DEPTH + 1);
}

uint64_t sim_launch_newest(int account)
{
    struct sim_state *state = sim_enter();
    uint64_t newest = own_channel(state, account)->submitted;
    sim_leave(state);
    return newest;
}

bool sim_launch_done(int account, uint64_t number, uint64_t *end_ns)
{
    struct sim_state *state = sim_enter();
    struct sim_channel *channel = own_channel(state, account);
    sim_timeline_advance(state, timeline_of(state, channel), sim_now_ns());
    bool done = channel->completed >= number;
    if (done && end_ns)
        *end_ns = number && channel->submitted - number < SIM_RING ? launch_at(channel, number)->end_ns : 0;
    sim_leave(state);
    return done;
}

/* The soonest that launch `number` can be done: exact when no other process has work here. */
static uint64_t soonest_ns(const struct sim_channel *channel, const struct sim_timeline *timeline, bool ours, uint64_t number, uint64_t now_ns)
{
    uint64_t left_ns = sum_at(channel, number) - sum_at(channel, channel->completed);
    if (timeline->running < 0)
        return now_ns + left_ns;
    return (ours ? timeline->running_start_ns : timeline->running_end_ns) + left_ns;
}

static uint64_t nap_until(struct sim_state *state, int account, uint64_t number)
{
    struct sim_channel *channel = own_channel(state, account);
    struct sim_timeline *timeline = timeline_of(state, channel);
    if (timeline->member_count > 1)
        sim_process_sweep(state);
    uint64_t now_ns = sim_now_ns();
    sim_timeline_advance(state, timeline, now_ns);
    if (channel->completed >= number)
        return 0;
    bool ours = timeline->running == own_account(state, account)->channel;
    uint64_t until_ns = soonest_ns(channel, timeline, ours, number, now_ns);
    return until_ns < now_ns + NAP_NS ? until_ns : now_ns + NAP_NS;
}

void sim_launch_wait(int account, uint64_t number)
{
    for (;;) {
        struct sim_state *state = sim_enter();
        uint64_t until_ns = nap_until(state, account, number);
        sim_leave(state);
        if (!until_ns)
            return;
        struct timespec until = {(time_t)(until_ns / 1000000000ULL), (long)(until_ns % 1000000000ULL)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
    }
}

/* --- Utilisation -------------------------------------------------------------------------------------------------------- */

static uint64_t device_busy_ns(struct sim_state *state, int device, uint64_t now_ns)
{
    struct sim_device *at = &state->devices[device];
    sim_timeline_advance(state, &at->timeline, now_ns);
    uint64_t busy_ns = sim_timeline_busy_ns(&at->timeline, now_ns);
    for (int g = 0; g < SIM_INSTANCES_MAX; g++)
        for (int c = 0; c < SIM_COMPUTE_MAX; c++)
            if (at->instances[g].live && at->instances[g].compute[c].live) {
                sim_timeline_advance(state, &at->instances[g].compute[c].timeline, now_ns);
                busy_ns += sim_timeline_busy_ns(&at->instances[g].compute[c].timeline, now_ns);
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
