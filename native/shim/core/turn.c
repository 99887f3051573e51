/* SPDX-License-Identifier: Apache-2.0 */
#include "turn.h"

/* A guard takes at most this part of a window. */
#define GUARD_PARTS 16
/* What is less late than this is how exactly ends are seen, and nobody's fault. */
#define NOISE_NS 500000ULL

static uint64_t get(const MICA_ATOMIC_U64 *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* By the clock still on the device; a clock from beyond what is believed says nothing. */
static uint64_t backlog_ns(const struct mica_token_region *token, uint64_t now_ns)
{
    uint64_t left_ns = token != NULL ? minus(get(&token->busy_until_ns), now_ns) : 0;
    return left_ns <= MICA_TOKEN_BACKLOG_MAX_NS ? left_ns : 0;
}

/* So much of the slice's window went to others' work, more than is known already. */
static void lose(struct mica_device *device, uint64_t length_ns, uint64_t lost_ns)
{
    struct mica_usage_region *usage = device->usage;
    uint64_t bounded_ns = lost_ns < length_ns ? lost_ns : length_ns;
    uint64_t known_ns = get(&usage->window_lost_ns);
    if (lost_ns > NOISE_NS && bounded_ns > known_ns) {
        atomic_store_explicit(&usage->window_lost_ns, bounded_ns, memory_order_relaxed);
        mica_window_owe(&usage->window_owed_ns, bounded_ns - known_ns);
    }
}

static uint64_t guard_ns(const struct mica_slice_limits *limits, const struct mica_token_region *token)
{
    uint64_t most_ns = limits->window_length_ns / GUARD_PARTS;
    uint64_t learnt_ns = token != NULL ? get(&token->guard_ns) : 0;
    return learnt_ns < most_ns ? learnt_ns : most_ns;
}

/* Time that nobody uses is for those who may borrow, and for those from whose windows others took some. Not for work of which nobody knows how long it is. */
static bool may_borrow(const struct mica_device *device, const struct mica_slice_limits *limits, const struct mica_work *work)
{
    bool is_owed = limits->control == MICA_CONTROL_RUN && get(&device->usage->window_owed_ns) >= work->cost_ns;
    return !work->alone && (limits->borrows != 0 || is_owed);
}

/* The slice asks in its open window. What by the clock is left of others' work is lost to it: the driver runs that before, or in turns with, its own. */
static void begin(struct mica_turn *turn, struct mica_device *device, const struct mica_slice_limits *limits, const struct mica_token_region *token,
                  uint64_t now_ns)
{
    if (!mica_window_begin(device->usage, limits, now_ns)) {
        return;
    }
    turn->first = true;
    uint64_t own = 1 + (uint64_t)atomic_load_explicit(&device->record, memory_order_relaxed);
    if (token != NULL && get(&token->last_record) != own) {
        lose(device, limits->window_length_ns, backlog_ns(token, now_ns));
    }
}

uint64_t mica_turn_wait(struct mica_turn *turn, struct mica_device *device, const struct mica_slice_limits *limits, struct mica_token_region *token,
                        const struct mica_work *work, uint64_t now_ns)
{
    turn->owns = false;
    if (!mica_window_has(limits)) {
        return 0;
    }
    turn->window = mica_window_at(limits, now_ns);
    turn->guard_ns = guard_ns(limits, token);
    bool is_open = now_ns < turn->window.closes_ns;
    if (is_open) {
        begin(turn, device, limits, token, now_ns);
    }
    struct mica_window_ask ask = {.cost_ns = work->cost_ns,
                                  .backlog_ns = backlog_ns(token, now_ns),
                                  .guard_ns = turn->guard_ns,
                                  .shut_ns = mica_window_shut(device->usage, turn->window.opens_ns)};
    uint64_t own_ns = mica_window_fit(limits, &ask, now_ns);
    if (own_ns == 0) {
        turn->owns = true;
        if (token != NULL) {
            mica_window_claim(token, now_ns, now_ns);
        }
        return 0;
    }
    if (is_open || token == NULL || !may_borrow(device, limits, work)) {
        return own_ns;
    }
    turn->first = false;
    uint64_t lent_ns = mica_window_borrow(device->quota, token, &ask, now_ns);
    return lent_ns < own_ns ? lent_ns : own_ns;
}

void mica_turn_taken(const struct mica_turn *turn, struct mica_device *device, const struct mica_slice_limits *limits, struct mica_work *work)
{
    if (!mica_window_has(limits)) {
        return;
    }
    if (!turn->owns) {
        if (limits->borrows == 0) {
            uint64_t owed_ns = get(&device->usage->window_owed_ns);
            while (!atomic_compare_exchange_weak_explicit(&device->usage->window_owed_ns, &owed_ns, minus(owed_ns, work->cost_ns), memory_order_relaxed,
                                                          memory_order_relaxed)) {
            }
        }
        return;
    }
    work->opens_ns = turn->window.opens_ns;
    work->closes_ns = turn->window.closes_ns;
    work->first = turn->first;
    work->last = minus(work->closes_ns, work->end_ns) < work->cost_ns + turn->guard_ns;
    /* Only what it takes itself is its fault: others' work may lie before it. */
    mica_window_owe(&device->usage->window_debt_ns, minus(work->now_ns + work->cost_ns, work->closes_ns));
    if (work->token != NULL) {
        mica_window_claim(work->token, work->end_ns, work->now_ns);
    }
}

static void note_first(struct mica_device *device, const struct mica_work *work, uint64_t began_ns)
{
    uint64_t could_ns = work->opens_ns + mica_window_shut(device->usage, work->opens_ns);
    uint64_t delay_ns = minus(began_ns, could_ns > work->asked_ns ? could_ns : work->asked_ns);
    atomic_fetch_add_explicit(&work->token->switches, 1, memory_order_relaxed);
    mica_window_note(&work->token->switch_ns, &work->token->switch_max_ns, delay_ns);
    lose(device, work->closes_ns - work->opens_ns, delay_ns);
}

static void note_last(struct mica_device *device, const struct mica_work *work, uint64_t seen_ns)
{
    struct mica_token_region *token = work->token;
    uint64_t late_ns = minus(seen_ns, work->closes_ns);
    mica_window_note(&token->late_ns, &token->late_max_ns, late_ns);
    if (work->end_ns <= work->closes_ns) {
        mica_window_note(&token->guard_ns, NULL, minus(seen_ns, work->end_ns));
    }
    /* Beyond what it was charged for when it was admitted, and what it lost to others in this window. */
    uint64_t foreseen_ns = work->end_ns > work->closes_ns ? work->end_ns : work->closes_ns;
    uint64_t unforeseen_ns = minus(minus(seen_ns, foreseen_ns), get(&device->usage->window_lost_ns));
    mica_window_owe(&device->usage->window_debt_ns, unforeseen_ns > NOISE_NS ? unforeseen_ns : 0);
}

void mica_turn_seen(struct mica_device *device, const struct mica_work *work, uint64_t cost_ns, uint64_t seen_ns)
{
    if (work->token == NULL || work->closes_ns == 0) {
        return;
    }
    if (work->first) {
        note_first(device, work, minus(seen_ns, cost_ns));
    }
    if (work->last || seen_ns > work->closes_ns) {
        note_last(device, work, seen_ns);
    }
}
