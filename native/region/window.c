/* SPDX-License-Identifier: Apache-2.0
 *
 * The windows of time-sliced devices: whose time it is, what fits into it, and who may use it beside its owner.
 *
 * Invariants. (1) At one moment at most one slice's window is open, as the planner lays them out; a slice launches in its own, and elsewhere only where no
 * owner wants the device. (2) What a slice's work takes beyond its window is shut for it in its next ones; so over time it has its windows' length and no more,
 * however long its kernels are. (3) Once an owner has said that it wants its window, each thread that borrows brings at most the one launch that asked before.
 *
 * Nobody holds a window: what is said in the token region is a time, which runs out. Each word stands for itself, and all accesses are relaxed, but for the
 * owner's word: its store and the borrowers' loads are sequentially consistent, with the device clock between them (see mica_window_claim).
 */
#include "words.h"

/* How much of a window, from its beginning, is still "its beginning" for work that does not fit: one part in this many. */
#define BEGINNING_PARTS 8
#define MEAN_SHIFT 3

bool mica_window_has(const struct mica_slice_limits *limits)
{
    return limits->window_period_ns != 0 && limits->window_length_ns < limits->window_period_ns;
}

/* Time since the window last opened; a window may lie across the period's end. */
static uint64_t since_ns(uint64_t offset_ns, uint64_t period_ns, uint64_t now_ns)
{
    uint64_t phase_ns = now_ns % period_ns;
    offset_ns %= period_ns;
    return phase_ns >= offset_ns ? phase_ns - offset_ns : period_ns - (offset_ns - phase_ns);
}

struct mica_window mica_window_at(const struct mica_slice_limits *limits, uint64_t now_ns)
{
    uint64_t opens_ns = difference(now_ns, since_ns(limits->window_offset_ns, limits->window_period_ns, now_ns));
    return (struct mica_window){.opens_ns = opens_ns, .closes_ns = sum(opens_ns, limits->window_length_ns)};
}

uint64_t mica_window_fit(const struct mica_slice_limits *limits, const struct mica_window_ask *ask, uint64_t now_ns)
{
    if (!mica_window_has(limits))
        return 0;
    uint64_t length_ns = limits->window_length_ns;
    uint64_t beginning_ns = length_ns / BEGINNING_PARTS;
    uint64_t since = since_ns(limits->window_offset_ns, limits->window_period_ns, now_ns);
    uint64_t again_ns = limits->window_period_ns - since;
    if (since >= length_ns || ask->shut_ns >= length_ns)
        return again_ns;
    if (since < ask->shut_ns)
        return ask->shut_ns - since;
    uint64_t needed_ns = sum(ask->cost_ns, ask->guard_ns);
    bool is_long = needed_ns > length_ns - beginning_ns;
    bool fits = is_long ? since - ask->shut_ns <= beginning_ns && ask->backlog_ns <= beginning_ns : length_ns - since >= sum(needed_ns, ask->backlog_ns);
    return fits ? 0 : again_ns;
}

uint64_t mica_window_wait(const struct mica_slice_limits *limits, uint64_t cost_ns, uint64_t now_ns)
{
    struct mica_window_ask ask = {.cost_ns = cost_ns};
    return mica_window_fit(limits, &ask, now_ns);
}

/* --- Debts ------------------------------------------------------------------------------------------------------------------ */

bool mica_window_begin(struct mica_usage_region *usage, const struct mica_slice_limits *limits, uint64_t now_ns)
{
    uint64_t opens_ns = mica_window_at(limits, now_ns).opens_ns;
    uint64_t seen_ns = load(&usage->window_seen_ns);
    /* Of several that ask at once one begins the window; the others may find it unshut for that moment. */
    if (seen_ns == opens_ns || !atomic_compare_exchange_strong_explicit(&usage->window_seen_ns, &seen_ns, opens_ns, memory_order_relaxed, memory_order_relaxed))
        return false;
    uint64_t debt_ns = load(&usage->window_debt_ns);
    uint64_t unused = difference(opens_ns, seen_ns) / limits->window_period_ns; /* windows that have opened since, this one included */
    uint64_t idle_ns = unused > 1 ? scaled(unused - 1, limits->window_length_ns, 1) : 0;
    uint64_t left_ns = difference(debt_ns, idle_ns);
    uint64_t paid_ns = left_ns < limits->window_length_ns ? left_ns : limits->window_length_ns;
    store(&usage->window_paid_ns, paid_ns);
    store(&usage->window_lost_ns, 0);
    move(&usage->window_debt_ns, false, sum(debt_ns - left_ns, paid_ns));
    return true;
}

uint64_t mica_window_shut(const struct mica_usage_region *usage, uint64_t opens_ns)
{
    return load(&usage->window_seen_ns) == opens_ns ? load(&usage->window_paid_ns) : 0;
}

void mica_window_owe(MICA_ATOMIC_U64 *word, uint64_t by_ns)
{
    uint64_t seen_ns = load(word);
    uint64_t next_ns;
    do
        next_ns = sum(seen_ns, by_ns) < MICA_WINDOW_DEBT_MAX_NS ? seen_ns + by_ns : MICA_WINDOW_DEBT_MAX_NS;
    while (!replace(word, &seen_ns, next_ns));
}

/* --- Borrowing -------------------------------------------------------------------------------------------------------------- */

/* A time beyond what any clock is believed for says nothing. */
static bool is_absurd(uint64_t until_ns, uint64_t now_ns)
{
    return difference(until_ns, now_ns) > MICA_TOKEN_BACKLOG_MAX_NS;
}

void mica_window_claim(struct mica_token_region *token, uint64_t until_ns, uint64_t now_ns)
{
    uint64_t seen_ns = load(&token->owner_ns);
    /* seq_cst, with the load in mica_window_borrow: a borrower that asks after this store sees it. */
    while ((seen_ns < until_ns || is_absurd(seen_ns, now_ns)) &&
           !atomic_compare_exchange_weak_explicit(&token->owner_ns, &seen_ns, until_ns, memory_order_seq_cst, memory_order_relaxed))
        ;
}

struct mica_window_look mica_window_look(const struct mica_quota_region *quota, uint64_t now_ns)
{
    struct mica_window_look look = {.owner = 0, .window = {.opens_ns = 0, .closes_ns = UINT64_MAX}};
    for (unsigned i = 0; i < MICA_SLICES_MAX; i++) {
        struct mica_slice_limits limits;
        if (atomic_load_explicit(&quota->records[i].state, memory_order_relaxed) == MICA_SLICE_FREE)
            continue; /* or it is being filled: then it is found when the borrower asks next, before its next launch */
        if (mica_quota_read(quota, i, &limits) != 0)
            return (struct mica_window_look){.owner = 0, .window = {.opens_ns = 0, .closes_ns = now_ns}};
        if (limits.state == MICA_SLICE_FREE || !mica_window_has(&limits))
            continue;
        struct mica_window window = mica_window_at(&limits, now_ns);
        uint64_t until_ns = now_ns < window.closes_ns ? window.closes_ns : sum(window.opens_ns, limits.window_period_ns);
        if (now_ns < window.closes_ns) {
            look.owner = i + 1;
            look.window.opens_ns = window.opens_ns;
        }
        look.window.closes_ns = until_ns < look.window.closes_ns ? until_ns : look.window.closes_ns;
    }
    return look;
}

uint64_t mica_window_borrow(const struct mica_quota_region *quota, const struct mica_token_region *token, const struct mica_window_ask *ask, uint64_t now_ns)
{
    struct mica_window_look look = mica_window_look(quota, now_ns);
    uint64_t ends_ns = sum(now_ns, sum(ask->backlog_ns, sum(ask->cost_ns, ask->guard_ns)));
    if (ends_ns > look.window.closes_ns)
        return look.window.closes_ns > now_ns ? look.window.closes_ns - now_ns : MICA_WINDOW_IDLE_NS;
    if (look.owner == 0)
        return 0;
    uint64_t wanted_ns = atomic_load_explicit(&token->owner_ns, memory_order_seq_cst);
    if (wanted_ns < look.window.opens_ns || is_absurd(wanted_ns, now_ns))
        wanted_ns = look.window.opens_ns; /* its owner is given a moment to wake up */
    return difference(wanted_ns + MICA_WINDOW_IDLE_NS, now_ns);
}

void mica_window_note(MICA_ATOMIC_U64 *mean, MICA_ATOMIC_U64 *most, uint64_t value_ns)
{
    if (mean != NULL) {
        uint64_t seen_ns = load(mean);
        uint64_t next_ns;
        do
            next_ns = seen_ns == 0                ? value_ns
                      : value_ns > seen_ns ? seen_ns + ((value_ns - seen_ns) >> MEAN_SHIFT)
                                           : seen_ns - ((seen_ns - value_ns) >> MEAN_SHIFT);
        while (!replace(mean, &seen_ns, next_ns));
    }
    if (most != NULL)
        raise_to(most, value_ns);
}
