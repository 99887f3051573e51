/* SPDX-License-Identifier: Apache-2.0
 *
 * The device token: a clock without a holder, and the order in which the slices put their work on it.
 *
 * Order is start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996). Work of cost c carries the tag that its slice's order time shows, and moves that
 * by c * 1e6 / share_ppm; the lowest tag goes first. The floor is the tag of the work submitted last, or that of a waiting slice if it is lower: a slice
 * that comes back from idleness starts there, neither behind those who were busy meanwhile nor with what it did not use. Spot slices are no reason for
 * that: they had what it did not use, and give it back.
 *
 * A turn ends early or late by no more than the quantum: a slice that is no longer the lowest goes on until its turn is a quantum long, so that the
 * device does not change hands with every launch. The error of a share is therefore bounded by one quantum or one kernel, however long it runs.
 *
 * Nobody holds anything. Whoever dies or stops leaves words that run out by themselves: a waiter is believed for MICA_WAITER_STALE_NS, the clock passes as
 * time does, a device taken alone is free again after MICA_TOKEN_ALONE_NS. All accesses are relaxed: each word stands for itself, the compare-and-set of
 * busy_until is what admits, and the others are hints that make a turn or a place in the order come out at worst one launch off.
 */
#include "waiters.h"

#define DRIVER_SLICE_NS 2000000ULL /* a turn of a driver that shares a device among processes by time */
#define DRIVER_SLICES_NS (2 * DRIVER_SLICE_NS)
#define CLAIM_NS 2000000ULL /* how long a claim on the device waits for it to run dry */
/* What a process keeps of what others of its slice went ahead of it: of its virtual time, so that weights do not matter. More than a deadline may put one ahead, or those
 * behind would be brought up to it. */
#define PROCESS_LAG_NS 20000000ULL

/* A gap that was long for the program is remembered for about so many of its works: keeping the device costs something once, after the last of them, and being late each time. */
#define RETURN_PARTS 64

static_assert(MICA_DEADLINE_LEAD_NS < PROCESS_LAG_NS, "see PROCESS_LAG_NS");

static uint64_t share_of(const struct mica_slice_limits *limits)
{
    return limits->share_ppm != 0 ? limits->share_ppm : 1;
}

/* --- The order ------------------------------------------------------------------------------------------------------------ */

/* What a word is ahead of `from_ns` was charged at `before`; make it what it would have been at `after`, which is more. */
static void rescale(MICA_ATOMIC_U64 *word, uint64_t from_ns, uint64_t before, uint64_t after)
{
    uint64_t seen = load(word);
    while (seen > from_ns && before < after && !replace(word, &seen, from_ns + scaled(seen - from_ns, before, after)))
        ;
}

/* A debt that was made at a low share must not hold a slice back that has been given a high one. */
static void follow_limits(struct mica_usage_region *usage, const struct mica_slice_limits *limits, uint64_t floor_ns, uint64_t now_ns)
{
    uint64_t basis = limits->ceiling_ppm << 32 | (limits->share_ppm & UINT32_MAX);
    uint64_t before = load(&usage->rate_basis);
    if (before == basis)
        return;
    if (!atomic_compare_exchange_strong_explicit(&usage->rate_basis, &before, basis, memory_order_relaxed, memory_order_relaxed) || before == 0)
        return;
    rescale(&usage->virtual_time_ns, now_ns, before >> 32, limits->ceiling_ppm);
    rescale(&usage->order_time_ns, floor_ns, before & UINT32_MAX, limits->share_ppm);
}

static uint64_t floor_at(const struct mica_token_region *token, uint64_t now_ns)
{
    uint64_t floor_ns = load(&token->order_floor_ns);
    uint64_t high = waiters_high(token);
    for (uint64_t i = 0; i < high; i++) {
        uint64_t tag_ns = load(&token->waiters[i].order_tag_ns);
        if (tag_ns < floor_ns && waits(&token->waiters[i], now_ns))
            floor_ns = tag_ns;
    }
    return floor_ns;
}

/* Where a slice joins the order at the earliest: `kept_ns` before the floor, or, where spot slices alone have been served since, what it lent them before it. */
static uint64_t joins_at(const struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t floor_ns, uint64_t kept_ns)
{
    uint64_t at_ns = difference(floor_ns, kept_ns);
    if (token == NULL || limits->tier == MICA_TIER_SPOT)
        return at_ns;
    uint64_t firm_ns = difference(load(&token->firm_floor_ns), kept_ns);
    uint64_t lent_ns = difference(floor_ns, MICA_LENT_MAX_NS);
    uint64_t sooner_ns = firm_ns > lent_ns ? firm_ns : lent_ns;
    return sooner_ns < at_ns ? sooner_ns : at_ns;
}

static uint64_t enter(struct mica_usage_region *usage, const struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t kept_ns,
                      uint64_t now_ns)
{
    uint64_t floor_ns = token != NULL ? floor_at(token, now_ns) : 0;
    follow_limits(usage, limits, floor_ns, now_ns);
    bool idle = now_ns > sum(load(&usage->active_until_ns), MICA_RETURN_NS);
    uint64_t lag_ns = idle || token == NULL ? 0 : MICA_LAG_MAX_NS;
    raise_to(&usage->virtual_time_ns, difference(now_ns, lag_ns));
    raise_to(&usage->order_time_ns, joins_at(token, limits, floor_ns, scaled(lag_ns > kept_ns ? lag_ns : kept_ns, MICA_PPM, share_of(limits))));
    return load(&usage->order_time_ns);
}

uint64_t mica_order_enter(struct mica_usage_region *usage, const struct mica_token_region *token, const struct mica_slice_limits *limits,
                          uint64_t now_ns)
{
    return enter(usage, token, limits, 0, now_ns);
}

uint64_t mica_hold_enter(struct mica_usage_region *usage, const struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t now_ns,
                         bool *has_kept)
{
    uint64_t tag_ns = enter(usage, token, limits, MICA_HOLD_KEPT_NS, now_ns);
    *has_kept = sum(tag_ns, scaled(MICA_HOLD_KEPT_NS / 2, MICA_PPM, share_of(limits))) <= floor_at(token, now_ns);
    return tag_ns;
}

uint64_t mica_order_after(const struct mica_slice_limits *limits, uint64_t tag_ns, uint64_t cost_ns)
{
    return sum(tag_ns, scaled(cost_ns, MICA_PPM, share_of(limits)));
}

void mica_order_charge(struct mica_usage_region *usage, struct mica_token_region *token, const struct mica_slice_limits *limits, uint64_t tag_ns,
                       uint64_t cost_ns, uint64_t end_ns)
{
    atomic_fetch_add_explicit(&usage->order_time_ns, scaled(cost_ns, MICA_PPM, share_of(limits)), memory_order_relaxed);
    raise_to(&usage->active_until_ns, end_ns);
    if (token == NULL)
        return;
    store(&token->order_floor_ns, tag_ns);
    if (limits->tier != MICA_TIER_SPOT)
        store(&token->firm_floor_ns, tag_ns);
}

void mica_order_correct(struct mica_usage_region *usage, struct mica_token_region *token, const struct mica_slice_limits *limits,
                        uint64_t charged_ns, uint64_t actual_ns)
{
    bool more = actual_ns > charged_ns;
    uint64_t by_ns = more ? actual_ns - charged_ns : charged_ns - actual_ns;
    if (by_ns == 0)
        return;
    move(&usage->order_time_ns, more, scaled(by_ns, MICA_PPM, share_of(limits)));
    if (token != NULL)
        move(&token->busy_until_ns, more, by_ns);
}

/* --- The clock ------------------------------------------------------------------------------------------------------------ */

/* When the asker may put its work on a clock that stands at `busy_ns`; and in `*look_ns`, when it is worth while to ask again: not for every kernel that
 * fits once more, but when half of what may lie there has run. */
static uint64_t chance_ns(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t busy_ns, uint64_t now_ns, uint64_t *look_ns)
{
    struct others others = others_of(token, ask, now_ns);
    unsigned rank = ask->urgent ? 0 : others.lower;
    *look_ns = difference(busy_ns, MICA_TOKEN_LEAD_NS);
    if (rank == 0 && ask->jumps)
        return 0;
    bool own_turn = load(&token->last_record) == ask->record + 1;
    if (own_turn && rank != 0 && sum(load(&token->turn_ns), ask->cost_ns) <= ask->quantum_ns)
        rank = 0;
    if (rank != 0)
        return difference(sum(busy_ns, rank * grace_of(ask)), MICA_TOKEN_LEAD_NS);
    uint64_t most_ns = own_turn ? (others.waiting == 0 ? ask->quantum_ns : ask->quantum_ns / 2) : 0;
    uint64_t room_ns = difference(most_ns, ask->cost_ns);
    if (room_ns / 2 > MICA_TOKEN_LEAD_NS)
        *look_ns = difference(busy_ns, room_ns / 2);
    return difference(busy_ns, room_ns > MICA_TOKEN_LEAD_NS ? room_ns : MICA_TOKEN_LEAD_NS);
}

/* How long work is kept from others' brief work that is on the device. A driver that takes processes in turns would switch to it at once, and come back when
 * it has run for a whole turn, however little of the other was left. For no longer than its own turn might be, and only where it is longer than the lead. */
static uint64_t spares_ns(const struct mica_token_region *token, struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t left_ns = difference(load(&token->brief_until_ns), now_ns);
    bool own_turn = load(&token->last_record) == ask->record + 1;
    if (left_ns == 0 || left_ns > MICA_TOKEN_BACKLOG_MAX_NS || own_turn || ask->cost_ns <= MICA_TOKEN_LEAD_NS)
        return 0;
    if (ask->spared_ns == 0)
        ask->spared_ns = now_ns;
    uint64_t most_ns = difference(ask->spared_ns + ask->quantum_ns, now_ns);
    return left_ns < most_ns ? left_ns : most_ns;
}

uint64_t mica_return_after(uint64_t usual_ns, uint64_t gap_ns, uint64_t most_ns)
{
    if (gap_ns <= usual_ns)
        return usual_ns - (usual_ns - gap_ns) / RETURN_PARTS;
    return gap_ns + gap_ns / 4 < most_ns ? gap_ns + gap_ns / 4 : most_ns;
}

void mica_return_note(struct mica_usage_region *usage, uint64_t now_ns)
{
    uint64_t gap_ns = difference(now_ns, load(&usage->active_until_ns));
    uint64_t usual_ns = load(&usage->return_ns);
    if (gap_ns == 0)
        return;
    store(&usage->return_ns, gap_ns > MICA_KEEP_MAX_NS ? usual_ns / 2 : mica_return_after(usual_ns, gap_ns, MICA_KEEP_MAX_NS));
}

/* How long work is kept off the device because a slice that comes before it is about to come back. Who is owed the device by the order waits for nobody. */
static uint64_t kept_ns(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t left_ns = difference(load(&token->kept_until_ns), now_ns);
    bool passes = load(&token->kept_record) == ask->record + 1 || ask->urgent || ask->tag_ns < load(&token->kept_tag_ns);
    return passes || left_ns > MICA_TOKEN_BACKLOG_MAX_NS + MICA_KEEP_MAX_NS ? 0 : left_ns;
}

static void keep(struct mica_token_region *token, const struct mica_token_ask *ask)
{
    store(&token->kept_tag_ns, ask->next_tag_ns);
    store(&token->kept_record, ask->record + 1);
    store(&token->kept_until_ns, sum(ask->end_ns, ask->keep_ns));
}

uint64_t mica_token_active_until(const struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t passed_ns = sum(now_ns + DRIVER_SLICE_NS, ask->cost_ns);
    return ask->jumps && passed_ns < ask->end_ns ? passed_ns : ask->end_ns;
}

bool mica_token_let_by(const struct mica_token_region *token, const struct mica_usage_region *usage, uint64_t quantum_ns, uint64_t now_ns)
{
    return now_ns >= load(&usage->active_until_ns) && difference(load(&token->busy_until_ns), now_ns) > quantum_ns;
}

void mica_token_unclaim(struct mica_token_region *token, uint64_t claim_ns)
{
    if (claim_ns != 0)
        atomic_compare_exchange_strong_explicit(&token->alone_until_ns, &claim_ns, 0, memory_order_relaxed, memory_order_relaxed);
}

void mica_token_leave(struct mica_token_region *token, const struct mica_token_ask *ask)
{
    store(&token->waiters[ask->record].seen_ns, 0);
    mica_token_unclaim(token, ask->claim_ns);
}

/* From when on the device runs only the new submitter's work. Where others' work was not about to end anyway, the driver takes it in turns with
 * the new, so that it ends some time after its estimate. */
static uint64_t clean_from(uint64_t backlog_ns, uint64_t now_ns)
{
    return now_ns + backlog_ns + (backlog_ns > MICA_TOKEN_LEAD_NS ? backlog_ns + DRIVER_SLICES_NS : 0);
}

static enum mica_clean cleanness(uint64_t from_ns, uint64_t now_ns)
{
    if (now_ns < from_ns)
        return MICA_CLEAN_NO;
    return now_ns - from_ns < MICA_TOKEN_LEAD_NS + DRIVER_SLICES_NS ? MICA_CLEAN_LIKELY : MICA_CLEAN_SURE;
}

static void submitted(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t backlog_ns, uint64_t now_ns)
{
    bool own_turn = load(&token->last_record) == ask->record + 1;
    if (own_turn) {
        atomic_fetch_add_explicit(&token->turn_ns, ask->cost_ns, memory_order_relaxed);
    } else {
        store(&token->last_record, ask->record + 1);
        store(&token->turn_ns, ask->cost_ns);
        store(&token->clean_from_ns, clean_from(backlog_ns, now_ns));
        atomic_fetch_add_explicit(&token->turns, 1, memory_order_relaxed);
    }
    if (ask->brief)
        store(&token->brief_until_ns, ask->end_ns);
    if (ask->keep_ns != 0)
        keep(token, ask);
    ask->clean = own_turn ? cleanness(load(&token->clean_from_ns), now_ns) : MICA_CLEAN_NO;
    store(&token->waiters[ask->record].seen_ns, 0);
}

/* Nanoseconds that the device still belongs to somebody else's single launch. A word from beyond the longest such time is damaged. */
static uint64_t others_alone(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t until_ns = load(&token->alone_until_ns);
    if (until_ns == ask->claim_ns && until_ns != 0)
        return 0;
    uint64_t left_ns = difference(until_ns, now_ns);
    if (left_ns == 0 || left_ns > MICA_TOKEN_BACKLOG_MAX_NS + CLAIM_NS)
        return 0;
    /* By estimate it ends with the clock; its end has to be seen, though, so look then, and often. */
    uint64_t backlog_ns = backlog_at(load(&token->busy_until_ns), now_ns);
    uint64_t look_ns = backlog_ns > MICA_TOKEN_GRACE_NS ? backlog_ns : MICA_TOKEN_GRACE_NS;
    return look_ns < left_ns ? look_ns : left_ns;
}

/* Have the device for one launch. True: the claim is the asker's. */
static bool claim(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t until_ns)
{
    uint64_t seen = load(&token->alone_until_ns);
    if (ask->claim_ns != 0 && seen != ask->claim_ns)
        ask->claim_ns = 0; /* it ran out, and another took it */
    if (!atomic_compare_exchange_strong_explicit(&token->alone_until_ns, &seen, until_ns, memory_order_relaxed, memory_order_relaxed))
        return false;
    ask->claim_ns = until_ns;
    return true;
}

uint64_t mica_token_admit(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t wait_ns = others_alone(token, ask, now_ns);
    uint64_t busy_ns = load(&token->busy_until_ns);
    while (wait_ns == 0) {
        uint64_t backlog_ns = backlog_at(busy_ns, now_ns);
        bool holds = ask->claim_ns != 0 && load(&token->alone_until_ns) == ask->claim_ns && ask->claim_ns > now_ns;
        uint64_t look_ns = 0;
        uint64_t at_ns = holds ? now_ns + backlog_ns : chance_ns(token, ask, now_ns + backlog_ns, now_ns, &look_ns);
        if (at_ns > now_ns) {
            wait_ns = (look_ns > at_ns ? look_ns : at_ns) - now_ns;
            break;
        }
        wait_ns = holds ? 0 : kept_ns(token, ask, now_ns);
        if (wait_ns == 0 && !holds)
            wait_ns = spares_ns(token, ask, now_ns);
        if (wait_ns != 0)
            break;
        uint64_t dry_ns = ask->alone ? backlog_at(sum(busy_ns, MICA_TOKEN_BEHIND_NS), now_ns) : 0;
        if (dry_ns != 0) {
            wait_ns = claim(token, ask, now_ns + dry_ns + CLAIM_NS) ? dry_ns : MICA_TOKEN_GRACE_NS;
            break;
        }
        if (ask->alone && !claim(token, ask, now_ns + MICA_TOKEN_ALONE_NS)) {
            wait_ns = MICA_TOKEN_GRACE_NS;
            break;
        }
        ask->end_ns = sum(now_ns + backlog_ns, ask->cost_ns);
        if (!replace(&token->busy_until_ns, &busy_ns, ask->end_ns))
            continue;
        submitted(token, ask, backlog_ns, now_ns);
        return 0;
    }
    wait_among(token, ask, now_ns);
    return wait_ns != 0 ? wait_ns : 1;
}

bool mica_token_release(struct mica_token_region *token, uint64_t claim_ns, uint64_t now_ns)
{
    uint64_t seen = claim_ns;
    if (claim_ns == 0 || !atomic_compare_exchange_strong_explicit(&token->alone_until_ns, &seen, 0, memory_order_relaxed, memory_order_relaxed))
        return false;
    store(&token->busy_until_ns, now_ns); /* it was the only work, and it is done */
    return now_ns <= claim_ns;
}

uint64_t mica_token_made(struct mica_token_region *token, uint64_t end_ns, uint64_t cost_ns, uint64_t now_ns)
{
    uint64_t late_ns = sum(now_ns, cost_ns);
    if (late_ns <= end_ns)
        return end_ns;
    /* If others came after it, their work ran in the gap, or made its own clock right. */
    uint64_t seen = end_ns, brief_ns = end_ns;
    atomic_compare_exchange_strong_explicit(&token->busy_until_ns, &seen, late_ns, memory_order_relaxed, memory_order_relaxed);
    atomic_compare_exchange_strong_explicit(&token->brief_until_ns, &brief_ns, late_ns, memory_order_relaxed, memory_order_relaxed);
    uint64_t kept_ns = load(&token->kept_until_ns);
    if (kept_ns > end_ns && kept_ns - end_ns <= MICA_KEEP_MAX_NS)
        move(&token->kept_until_ns, true, late_ns - end_ns);
    return late_ns;
}

void mica_token_shift(struct mica_token_region *token, bool late, uint64_t by_ns)
{
    move(&token->busy_until_ns, late, by_ns);
}

/* --- Processes of one slice ------------------------------------------------------------------------------------------------- */

static uint64_t weighted(const struct mica_process_slot *slot, uint64_t cost_ns)
{
    uint64_t weight = load(&slot->weight);
    return scaled(cost_ns, MICA_WEIGHT_DEFAULT, weight != 0 ? weight : MICA_WEIGHT_DEFAULT);
}

void mica_process_enter(struct mica_usage_region *usage, unsigned slot_index, uint64_t deadline_ns, uint64_t now_ns)
{
    struct mica_process_slot *slot = &usage->processes[slot_index];
    raise_to(&slot->virtual_time_ns, difference(load(&usage->process_floor_ns), PROCESS_LAG_NS));
    if (load(&slot->deadline_ns) != deadline_ns)
        store(&slot->deadline_ns, deadline_ns);
    store(&slot->waiting_ns, now_ns);
}

static bool process_waits(const struct mica_process_slot *slot, uint64_t now_ns)
{
    return is_recent(load(&slot->waiting_ns), now_ns) && (load(&slot->owner) & MICA_OWNER_HELD) != 0;
}

/* A process's place in the order: the lower rank first, of equal ranks the lower key. At one moment this is one order of all that wait. */
struct place {
    unsigned rank;
    uint64_t key_ns;
};

static struct place place_of(const struct mica_process_slot *slot, uint64_t virtual_ns, uint64_t least_ns)
{
    uint64_t deadline_ns = load(&slot->deadline_ns);
    bool goes_by_deadline = deadline_ns != 0 && virtual_ns <= sum(least_ns, MICA_DEADLINE_LEAD_NS);
    return (struct place){.rank = goes_by_deadline ? 0 : 1, .key_ns = goes_by_deadline ? deadline_ns : virtual_ns};
}

int mica_process_wait(struct mica_usage_region *usage, unsigned slot_index, uint64_t quantum_ns, uint64_t now_ns)
{
    struct mica_process_slot *own = &usage->processes[slot_index];
    uint64_t high = load(&usage->slots_high);
    uint64_t own_ns = difference(load(&own->virtual_time_ns), weighted(own, quantum_ns / 2));
    uint64_t least_ns = own_ns;
    store(&own->waiting_ns, now_ns);
    for (uint64_t i = 0; i < high && i < MICA_PROCESSES_MAX; i++) {
        uint64_t virtual_ns = load(&usage->processes[i].virtual_time_ns);
        if (virtual_ns < least_ns && process_waits(&usage->processes[i], now_ns))
            least_ns = virtual_ns;
    }
    struct place mine = place_of(own, own_ns, least_ns);
    for (uint64_t i = 0; i < high && i < MICA_PROCESSES_MAX; i++) {
        const struct mica_process_slot *slot = &usage->processes[i];
        if (i == slot_index || !process_waits(slot, now_ns))
            continue;
        struct place other = place_of(slot, load(&slot->virtual_time_ns), least_ns);
        if (other.rank < mine.rank || (other.rank == mine.rank && other.key_ns < mine.key_ns))
            return 1;
    }
    return 0;
}

void mica_process_charge(struct mica_usage_region *usage, unsigned slot_index, uint64_t cost_ns)
{
    struct mica_process_slot *slot = &usage->processes[slot_index];
    uint64_t start_ns = atomic_fetch_add_explicit(&slot->virtual_time_ns, weighted(slot, cost_ns), memory_order_relaxed);
    raise_to(&usage->process_floor_ns, start_ns);
    store(&slot->waiting_ns, 0);
}
