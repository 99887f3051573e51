/* SPDX-License-Identifier: Apache-2.0
 *
 * The slow path of a launch: everything a slice may be held back by, in one loop. It asks, naps and asks again; it never holds anything while it naps, so
 * that a process that dies here is missed by nobody.
 */
#define _GNU_SOURCE
#include "launch.h"

#include "credit.h"
#include "nap.h"
#include "turn.h"

/* How long a process of the slice that goes first is waited for when it could go: another slice's turn and its own longest nap. Shorter, and it is passed
 * over while it sleeps, however much it weighs. */
#define PROCESS_GRACE_NS 3000000ULL
#define PROCESS_NAP_NS 100000ULL
/* How far the rate may be overdrawn, beside its burst, on a device that must be held: turns are long there, and who asks at random moments asks for several at once. */
#define HOLD_BURST_NS 90000000ULL
/* How far communication may overdraw the rate. */
#define URGENT_OVERDRAFT_NS 10000000ULL
/* Device time that is charged at once, and then used without asking: at most this, and at most this part of a quantum. */
#define CREDIT_MAX_NS 50000ULL
#define CREDIT_QUANTUM_PARTS 32
/* In its own window a slice has nobody to give way to before the end, and may have more on the device: so the machine that runs it late leaves no gap. Within its burst. */
#define OWN_WINDOW_QUANTA 4

struct attempt {
    struct mica_device *device;
    struct mica_work *work;
    struct mica_token_region *token; /* NULL: no token */
    union {
        struct mica_token_ask ask;
        struct mica_hold_ask hold; /* of work that is strict; begins with an ask */
    };
    struct mica_turn turn;
    uint64_t heard; /* the bell, before the device was asked for */
    uint64_t grant_ns; /* the cost with its credit */
    uint64_t rank_since_ns;
    bool was_empty; /* nothing of the slice was on the device when the launch was asked for, or the driver has let it by since */
    bool rate_is_paid;
};

static struct mica_process_slot *own_slot(const struct mica_device *device)
{
    return &device->usage->processes[device->slot];
}

/* Whether the device must be the slice's when its work is on it: mica_hold_admit then does the counting. */
static bool holds(const struct attempt *attempt)
{
    return attempt->work->strict && attempt->token != NULL;
}

/* Credit is for slices whose only limits are time: the others must see every launch. */
static uint64_t grant(const struct mica_slice_limits *limits, const struct mica_work *work)
{
    uint64_t credit_ns = limits->quantum_ns != 0 ? limits->quantum_ns / CREDIT_QUANTUM_PARTS : CREDIT_MAX_NS;
    credit_ns = credit_ns < CREDIT_MAX_NS ? credit_ns : CREDIT_MAX_NS;
    bool plain = limits->window_period_ns == 0 && limits->launch_rate_hz == 0 && limits->inflight_max == 0 && !work->alone;
    return plain && work->cost_ns < credit_ns ? credit_ns : work->cost_ns;
}

/* Count the launch as in flight if the slice has room for it; in a slice with a window always, because one that never ends has the device to itself there, and is
 * seen by that. The sum is taken with it counted, so that of several that race none is overlooked. */
static bool count_in_flight(struct attempt *attempt, const struct mica_slice_limits *limits)
{
    attempt->work->limited = limits->inflight_max != 0 || mica_window_has(limits);
    if (!attempt->work->limited || attempt->work->counted || holds(attempt)) {
        return true;
    }
    struct mica_usage_region *usage = attempt->device->usage;
    /* seq_cst, with the loads of the sum, in every racer: of two that count at once at least one sees both. */
    atomic_fetch_add_explicit(&own_slot(attempt->device)->inflight, 1, memory_order_seq_cst);
    if (limits->inflight_max != 0 && mica_inflight_sum(usage) > limits->inflight_max) {
        mica_launch_ended(attempt->device, 1);
        return false;
    }
    attempt->work->counted = true;
    return true;
}

/* Another process of the slice that is further behind goes first, for as long as it plausibly comes. */
static bool yields(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    if (attempt->work->urgent || atomic_load_explicit(&attempt->device->usage->slots_high, memory_order_relaxed) <= 1) {
        return false;
    }
    if (!mica_process_wait(attempt->device->usage, attempt->device->slot, limits->quantum_ns, now_ns)) {
        attempt->rank_since_ns = 0;
        return false;
    }
    if (attempt->rank_since_ns == 0) {
        attempt->rank_since_ns = now_ns;
    }
    return now_ns - attempt->rank_since_ns < PROCESS_GRACE_NS;
}

static void describe(struct attempt *attempt, const struct mica_slice_limits *limits)
{
    attempt->ask.record = atomic_load_explicit(&attempt->device->record, memory_order_relaxed);
    attempt->ask.cost_ns = attempt->grant_ns;
    attempt->ask.quantum_ns = limits->quantum_ns * (attempt->turn.owns ? OWN_WINDOW_QUANTA : 1);
    attempt->ask.alone = attempt->work->alone;
    attempt->ask.urgent = attempt->work->urgent || attempt->turn.owns; /* nobody is before a slice in its own window */
    attempt->ask.keep_ns = atomic_load_explicit(&attempt->device->usage->return_ns, memory_order_relaxed);
    attempt->ask.next_tag_ns = mica_order_after(limits, attempt->ask.tag_ns, attempt->grant_ns);
}

static uint64_t rate_wait(const struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    if (holds(attempt) && mica_hold_goes_on(attempt->token, &attempt->ask, now_ns)) {
        return 0;
    }
    uint64_t wait_ns = mica_rate_wait(attempt->device->usage, limits, now_ns);
    if (holds(attempt)) {
        wait_ns = wait_ns > HOLD_BURST_NS ? wait_ns - HOLD_BURST_NS : 0;
    }
    return attempt->work->urgent && wait_ns <= URGENT_OVERDRAFT_NS ? 0 : wait_ns;
}

static uint64_t submit_by_rate(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    if (attempt->work->urgent) {
        mica_rate_charge(attempt->device->usage, limits, attempt->grant_ns);
    } else {
        uint64_t wait_ns = mica_rate_take(attempt->device->usage, limits, attempt->grant_ns, now_ns);
        if (wait_ns != 0) {
            return wait_ns;
        }
    }
    attempt->ask.end_ns = now_ns + attempt->grant_ns;
    return 0;
}

static uint64_t submit_by_hold(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    struct mica_usage_region *usage = attempt->device->usage;
    attempt->hold.usage = usage;
    attempt->hold.slot = attempt->device->slot;
    attempt->hold.inflight_max = limits->inflight_max;
    uint64_t wait_ns = mica_hold_admit(attempt->token, &attempt->hold, now_ns);
    attempt->work->counted = wait_ns == 0;
    return wait_ns;
}

static uint64_t submit_by_token(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    attempt->was_empty |= mica_token_let_by(attempt->token, attempt->device->usage, limits->quantum_ns, now_ns);
    attempt->ask.jumps = attempt->was_empty && attempt->grant_ns <= limits->quantum_ns;
    attempt->ask.brief = attempt->ask.jumps && atomic_load_explicit(&attempt->device->usage->virtual_time_ns, memory_order_relaxed) <= now_ns;
    return mica_token_admit(attempt->token, &attempt->ask, now_ns);
}

static uint64_t submit_in_turn(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    uint64_t wait_ns = holds(attempt) ? submit_by_hold(attempt, limits, now_ns) : submit_by_token(attempt, limits, now_ns);
    if (wait_ns == 0) {
        mica_rate_charge(attempt->device->usage, limits, attempt->grant_ns);
    }
    return wait_ns;
}

/* Charge the work and return 0, or charge nothing and return how long to wait before asking again. */
static uint64_t try_submit(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    struct mica_usage_region *usage = attempt->device->usage;
    if (limits->control == MICA_CONTROL_PAUSE || limits->control == MICA_CONTROL_SUSPEND) {
        return MICA_NAP_MAX_NS;
    }
    attempt->grant_ns = grant(limits, attempt->work);
    uint64_t wait_ns = mica_turn_wait(&attempt->turn, attempt->device, limits, attempt->token, attempt->work, now_ns);
    describe(attempt, limits);
    if (wait_ns == 0) {
        wait_ns = rate_wait(attempt, limits, now_ns);
    }
    if (wait_ns != 0) {
        return wait_ns;
    }
    if (yields(attempt, limits, now_ns) || !count_in_flight(attempt, limits)) {
        return PROCESS_NAP_NS;
    }
    if (limits->launch_rate_hz != 0 && !attempt->rate_is_paid) {
        wait_ns = mica_cell_admit(&usage->launch_time_ns, 1000000000ULL / limits->launch_rate_hz, 0, now_ns);
        attempt->rate_is_paid = wait_ns == 0;
    }
    if (wait_ns == 0) {
        wait_ns = attempt->token != NULL ? submit_in_turn(attempt, limits, now_ns) : submit_by_rate(attempt, limits, now_ns);
    }
    return wait_ns;
}

static void add_time(struct mica_device *device, uint64_t ns)
{
    atomic_fetch_add_explicit(&own_slot(device)->gpu_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->usage->gpu_ns, ns, memory_order_relaxed);
}

static void add_waited(struct mica_device *device, uint64_t ns)
{
    atomic_fetch_add_explicit(&own_slot(device)->throttled_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&device->usage->throttled_ns, ns, memory_order_relaxed);
}

static void submitted(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    struct mica_work *work = attempt->work;
    struct mica_device *device = attempt->device;
    uint64_t active_until_ns = attempt->token != NULL ? mica_token_active_until(&attempt->ask, now_ns) : attempt->ask.end_ns;
    mica_order_charge(device->usage, attempt->token, limits, attempt->ask.tag_ns, attempt->grant_ns, active_until_ns);
    mica_process_charge(device->usage, device->slot, attempt->grant_ns);
    mica_count_launches(device, 1);
    add_time(device, attempt->grant_ns);
    work->charged_ns = attempt->grant_ns;
    work->credit_ns = attempt->grant_ns - work->cost_ns;
    work->now_ns = now_ns;
    work->end_ns = attempt->ask.end_ns;
    work->token = attempt->token;
    work->record = attempt->token != NULL ? attempt->ask.record : 0;
    work->claim_ns = attempt->token != NULL ? attempt->ask.claim_ns : 0;
    work->clean = attempt->token != NULL ? (enum mica_clean)attempt->ask.clean : MICA_CLEAN_NO;
    work->turns = attempt->token != NULL ? atomic_load_explicit(&attempt->token->turns, memory_order_relaxed) : 0;
    mica_turn_taken(&attempt->turn, attempt->device, limits, work);
}

/* Control word throttle: no borrowing, the guaranteed share and the own window only. */
static const struct mica_slice_limits *throttled(const struct mica_slice_limits *limits, struct mica_slice_limits *copy)
{
    if (limits->control != MICA_CONTROL_THROTTLE) {
        return limits;
    }
    *copy = *limits;
    copy->ceiling_ppm = limits->window_period_ns != 0 ? limits->ceiling_ppm : limits->share_ppm;
    copy->borrows = 0;
    return copy;
}

/* Work that waits is not in flight, whatever it was counted as when it last asked. */
static void uncount(struct attempt *attempt)
{
    if (attempt->work->counted) {
        mica_launch_ended(attempt->device, 1);
        attempt->work->counted = false;
    }
}

static enum mica_verdict give_up(struct attempt *attempt, enum mica_verdict verdict)
{
    if (attempt->token != NULL) {
        mica_token_leave(attempt->token, &attempt->ask);
    }
    uncount(attempt);
    atomic_store_explicit(&own_slot(attempt->device)->waiting_ns, 0, memory_order_relaxed);
    return verdict;
}

/* Take a place in the order. */
static void enter(struct attempt *attempt, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    struct mica_usage_region *usage = attempt->device->usage;
    if (holds(attempt)) {
        bool has_kept = false;
        attempt->ask.tag_ns = mica_hold_enter(usage, attempt->token, limits, now_ns, &has_kept);
        attempt->hold.prompt = has_kept && attempt->work->prompt;
    } else {
        mica_return_note(usage, now_ns);
        attempt->ask.tag_ns = mica_order_enter(usage, attempt->token, limits, now_ns);
    }
}

/* The bell that may wake the attempt, heard from now on; NULL: there is none. */
static MICA_ATOMIC_U64 *bell_of(struct attempt *attempt)
{
    if (!holds(attempt)) {
        return NULL;
    }
    unsigned record = atomic_load_explicit(&attempt->device->record, memory_order_relaxed);
    MICA_ATOMIC_U64 *bell = &attempt->token->waiters[record].bell;
    /* seq_cst, with the word that the device is asked for by: whoever lets go after that read rings after this one. */
    attempt->heard = atomic_load_explicit(bell, memory_order_seq_cst);
    return bell;
}

enum mica_verdict mica_launch_admit(struct mica_device *device, struct mica_work *work, const struct mica_wait *wait)
{
    struct attempt attempt = {.device = device, .work = work};
    struct mica_slice_limits copy;
    for (uint64_t last_ns = 0;;) {
        const struct mica_slice_limits *limits = mica_limits_now(device);
        if (limits == NULL || limits->control == MICA_CONTROL_KILL) {
            return give_up(&attempt, limits == NULL ? MICA_FORBIDDEN : MICA_KILLED);
        }
        limits = throttled(limits, &copy);
        attempt.token = limits->quantum_ns != 0 ? device->token : NULL;
        work->alone &= attempt.token != NULL && !work->strict;
        MICA_ATOMIC_U64 *bell = bell_of(&attempt);
        uint64_t now_ns = mica_monotonic_ns();
        if (last_ns == 0) {
            attempt.was_empty = now_ns >= atomic_load_explicit(&device->usage->active_until_ns, memory_order_relaxed);
            enter(&attempt, limits, now_ns);
            work->asked_ns = now_ns;
            mica_process_enter(device->usage, device->slot, device->deadline_ns != 0 ? now_ns + device->deadline_ns : 0, now_ns);
        } else {
            add_waited(device, now_ns - last_ns);
        }
        uint64_t wait_ns = try_submit(&attempt, limits, now_ns);
        if (wait_ns == 0) {
            submitted(&attempt, limits, now_ns);
            return MICA_GRANTED;
        }
        uncount(&attempt);
        last_ns = now_ns;
        if (bell != NULL) {
            mica_nap_by(bell, attempt.heard, wait_ns);
        } else {
            mica_nap(wait_ns);
        }
        wait->poll(wait->context);
    }
}

/* Credit that is not used yet is on the clock and not on the device: so much less may lie before the work. */
void mica_launch_made(struct mica_work *work)
{
    if (work->token != NULL) {
        work->made_ns = mica_monotonic_ns();
        if (!work->strict && work->made_ns + work->charged_ns + CREDIT_MAX_NS > work->end_ns) {
            work->clean = MICA_CLEAN_NO;
        }
        work->end_ns = mica_token_made(work->token, work->end_ns, work->charged_ns, work->made_ns);
    }
}

void mica_launch_correct(struct mica_device *device, uint64_t charged_ns, uint64_t actual_ns, struct mica_token_region *clock)
{
    const struct mica_slice_limits *limits = mica_limits_now(device);
    if (limits == NULL || charged_ns == actual_ns) {
        return;
    }
    mica_rate_correct(device->usage, limits, charged_ns, actual_ns);
    mica_order_correct(device->usage, clock, limits, charged_ns, actual_ns);
    /* What was charged is in the sums already, and the correction has added the whole of what it really was. Unsigned wrap-around makes a subtraction of
     * the addition where the work was shorter than charged. */
    atomic_fetch_sub_explicit(&device->usage->gpu_ns, charged_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&own_slot(device)->gpu_ns, actual_ns - charged_ns, memory_order_relaxed);
}

void mica_launch_ended(struct mica_device *device, uint64_t count)
{
    /* A slot that was reclaimed meanwhile stays at zero. seq_cst: see count_in_flight. */
    MICA_ATOMIC_U64 *inflight = &own_slot(device)->inflight;
    uint64_t seen = atomic_load_explicit(inflight, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(inflight, &seen, seen > count ? seen - count : 0, memory_order_seq_cst, memory_order_relaxed)) {
    }
}

void mica_launch_left(struct mica_device *device, struct mica_token_region *token, uint64_t record, uint64_t count, uint64_t stays_ns, uint64_t now_ns)
{
    mica_launch_ended(device, count);
    int waiter = mica_hold_leave(token, device->usage, record, stays_ns, now_ns);
    if (waiter >= 0) {
        mica_nap_ring(&token->waiters[waiter].bell);
    }
}

void mica_launch_over(struct mica_device *device, const struct mica_work *work, uint64_t stays_ns, uint64_t now_ns)
{
    if (!work->counted) {
        return;
    }
    if (work->strict && work->token != NULL) {
        mica_launch_left(device, work->token, work->record, 1, stays_ns, now_ns);
    } else {
        mica_launch_ended(device, 1);
    }
}

void mica_launch_cancel(struct mica_device *device, const struct mica_work *work)
{
    mica_launch_over(device, work, 0, mica_monotonic_ns());
    if (work->claim_ns != 0) {
        mica_token_release(work->token, work->claim_ns, mica_monotonic_ns());
    }
    mica_count_launches(device, (uint64_t)-1);
    mica_launch_correct(device, work->charged_ns, 0, work->claim_ns == 0 ? work->token : NULL);
}
