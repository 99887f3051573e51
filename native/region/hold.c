/* SPDX-License-Identifier: Apache-2.0
 *
 * The hold: devices that would run several slices' work at once. Its argument stands in native/model/hold.pml.
 *
 * A slice's work is counted in flight before it takes the device, and the word that says who has the device is read before what is in flight is added up. So
 * whoever finds nothing in flight and lets go by a compare-and-set from what it has read cannot have overlooked work that was admitted meanwhile: that has
 * changed the word. Whoever counts and is then refused has perhaps hidden the end of the last work from its ender, and lets go in its place.
 *
 * While the slice lives and has work there, somebody renews the word every MICA_HOLD_RENEW_NS. A slice that is killed or stopped computes nothing on
 * a processor, and its hold runs out by itself.
 */
#include "waiters.h"

#define US 1000ULL
#define OWNER_MASK ((1ULL << MICA_HOLD_OWNER_BITS) - 1)
#define UNTIL_MASK ((1ULL << MICA_HOLD_UNTIL_BITS) - 1)
#define VERSION_SHIFT (MICA_HOLD_OWNER_BITS + MICA_HOLD_UNTIL_BITS)
/* What may be left of the slice's own work when it adds to it: enough that the device does not stand still, and little, because who asks for little and soon waits for
 * it. Where nobody has done so for a while it may be more. */
#define QUIET_NS 50000000ULL
#define ROOM_PARTS 4 /* of a quantum, with what is added */
#define LEAD_PARTS 8 /* of a quantum, without; and not more than a ROOM_PARTS part of what is added */
/* A turn is so many quanta long, as long as nobody prompt waits: those that always have work lose nothing by it, and a device that changes hands stands still. It is
 * shorter where its slice has less than a tenth of the device: a scavenger is owed little at a time, and has it briefly. */
#define TURN_QUANTA 8
#define ROUND_QUANTA (10 * TURN_QUANTA)
#define MEAN_PARTS 16 /* so many gaps are about what an average is of */
#define FULL_RECHECK_NS 100000ULL /* launches in flight are at their limit: ask again so soon */

static uint64_t owner_of(uint64_t hold)
{
    return hold & OWNER_MASK;
}

/* A word from beyond the longest hold is damaged, and holds nothing. */
static uint64_t until_ns(uint64_t hold, uint64_t now_ns)
{
    uint64_t until = (hold >> MICA_HOLD_OWNER_BITS & UNTIL_MASK) * US;
    return until <= now_ns + 2 * MICA_HOLD_NS ? until : 0;
}

static uint64_t word_after(uint64_t hold, uint64_t until, uint64_t record)
{
    return ((hold >> VERSION_SHIFT) + 1) << VERSION_SHIFT | (until / US & UNTIL_MASK) << MICA_HOLD_OWNER_BITS | (record + 1);
}

/* seq_cst, like the counts: see above. */
static uint64_t read_hold(const struct mica_token_region *token)
{
    return atomic_load_explicit(&token->hold, memory_order_seq_cst);
}

static bool change(struct mica_token_region *token, uint64_t seen, uint64_t next)
{
    return atomic_compare_exchange_strong_explicit(&token->hold, &seen, next, memory_order_seq_cst, memory_order_relaxed);
}

uint64_t mica_inflight_sum(const struct mica_usage_region *usage)
{
    uint64_t high = load(&usage->slots_high);
    uint64_t total = 0;
    for (uint64_t i = 0; i < high && i < MICA_PROCESSES_MAX; i++) {
        if (load(&usage->processes[i].owner) & MICA_OWNER_HELD)
            total += atomic_load_explicit(&usage->processes[i].inflight, memory_order_seq_cst);
    }
    return total;
}

/* --- Taking --------------------------------------------------------------------------------------------------------------- */

/* How long the slice that has the device waits before it adds to what it has there. */
static uint64_t own_wait_ns(const struct mica_token_region *token, const struct mica_token_ask *ask, const struct others *others, bool held, uint64_t now_ns)
{
    uint64_t backlog_ns = held ? backlog_at(load(&token->busy_until_ns), now_ns) : 0;
    bool quiet = others->prompt == 0 && difference(now_ns, load(&token->prompt_ns)) > QUIET_NS;
    uint64_t room_ns = difference(quiet ? ask->quantum_ns : ask->quantum_ns / ROOM_PARTS, ask->cost_ns);
    uint64_t most_ns = ask->quantum_ns / (quiet ? ROOM_PARTS : LEAD_PARTS);
    uint64_t lead_ns = quiet || ask->cost_ns / ROOM_PARTS > most_ns ? most_ns : ask->cost_ns / ROOM_PARTS;
    return difference(backlog_ns, room_ns > lead_ns ? room_ns : lead_ns);
}

static bool has_turn(const struct mica_token_region *token, const struct mica_token_ask *ask)
{
    uint64_t turn_ns = sum(load(&token->turn_ns), ask->cost_ns);
    uint64_t order_ns = ask->cost_ns != 0 ? scaled(turn_ns, difference(ask->next_tag_ns, ask->tag_ns), ask->cost_ns) : 0;
    return turn_ns <= TURN_QUANTA * ask->quantum_ns && order_ns <= ROUND_QUANTA * ask->quantum_ns;
}

/* Nanoseconds until the asker may take a device whose word is `hold`, as far as can be told now. */
static uint64_t chance_in_ns(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t hold, uint64_t now_ns)
{
    struct others others = others_of(token, ask, now_ns);
    uint64_t until = until_ns(hold, now_ns);
    bool own = owner_of(hold) == ask->record + 1;
    unsigned rank = ask->urgent ? 0 : others.lower;
    if (own && others.prompt == 0 && has_turn(token, ask))
        rank = 0;
    if (own && rank == 0)
        return own_wait_ns(token, ask, &others, until > now_ns, now_ns);
    return difference(sum(until, rank * grace_of(ask)), now_ns);
}

/* The device is the asker's, whose word was `before`. */
static void taken(struct mica_token_region *token, struct mica_token_ask *ask, uint64_t before, uint64_t now_ns)
{
    bool own = owner_of(before) == ask->record + 1;
    uint64_t busy_ns = load(&token->busy_until_ns);
    if (own && until_ns(before, now_ns) > now_ns) {
        do
            ask->end_ns = now_ns + backlog_at(busy_ns, now_ns) + ask->cost_ns;
        while (!replace(&token->busy_until_ns, &busy_ns, ask->end_ns));
    } else {
        ask->end_ns = now_ns + ask->cost_ns;
        store(&token->busy_until_ns, ask->end_ns);
    }
    if (own) {
        atomic_fetch_add_explicit(&token->turn_ns, ask->cost_ns, memory_order_relaxed);
    } else {
        store(&token->turn_ns, ask->cost_ns);
        atomic_fetch_add_explicit(&token->turns, 1, memory_order_relaxed);
    }
    ask->clean = MICA_CLEAN_SURE;
    store(&token->waiters[ask->record].seen_ns, 0);
}

static uint64_t try_to_take(struct mica_token_region *token, struct mica_hold_ask *hold, uint64_t now_ns)
{
    struct mica_token_ask *ask = &hold->ask;
    MICA_ATOMIC_U64 *own = &hold->usage->processes[hold->slot].inflight;
    uint64_t wait_ns = 0;
    while (wait_ns == 0) {
        uint64_t seen = read_hold(token);
        wait_ns = chance_in_ns(token, ask, seen, now_ns);
        if (wait_ns != 0)
            break;
        atomic_fetch_add_explicit(own, 1, memory_order_seq_cst);
        bool full = hold->inflight_max != 0 && mica_inflight_sum(hold->usage) > hold->inflight_max;
        if (!full && change(token, seen, word_after(seen, now_ns + MICA_HOLD_NS, ask->record))) {
            taken(token, ask, seen, now_ns);
            return 0;
        }
        atomic_fetch_sub_explicit(own, 1, memory_order_seq_cst);
        (void)mica_hold_leave(token, hold->usage, ask->record, 0, now_ns);
        wait_ns = full ? FULL_RECHECK_NS : 0;
    }
    return wait_ns;
}

uint64_t mica_hold_admit(struct mica_token_region *token, struct mica_hold_ask *hold, uint64_t now_ns)
{
    if (hold->prompt != 0)
        store(&token->prompt_ns, now_ns);
    uint64_t wait_ns = try_to_take(token, hold, now_ns);
    if (wait_ns == 0)
        return 0;
    store(&token->waiters[hold->ask.record].prompt, hold->prompt);
    wait_among(token, &hold->ask, now_ns);
    /* Pairs with the fence in mica_hold_leave: whoever let go either sees that this one waits, or is seen here. */
    atomic_thread_fence(memory_order_seq_cst);
    return try_to_take(token, hold, now_ns);
}

bool mica_hold_goes_on(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns)
{
    uint64_t hold = read_hold(token);
    return owner_of(hold) == ask->record + 1 && until_ns(hold, now_ns) > now_ns && has_turn(token, ask);
}

bool mica_hold_renew(struct mica_token_region *token, uint64_t record, uint64_t now_ns)
{
    uint64_t seen = read_hold(token);
    while (owner_of(seen) == record + 1) {
        if (change(token, seen, word_after(seen, now_ns + MICA_HOLD_NS, record)))
            return true;
        seen = read_hold(token);
    }
    return false;
}

/* --- Letting go ----------------------------------------------------------------------------------------------------------- */

/* Of those that wait, the one that comes first in the order; -1: nobody waits. */
static int first_waiter(const struct mica_token_region *token, uint64_t now_ns)
{
    int first = -1;
    uint64_t lowest_ns = 0;
    uint64_t high = waiters_high(token);
    for (uint64_t i = 0; i < high; i++) {
        uint64_t tag_ns = load(&token->waiters[i].order_tag_ns);
        if (waits(&token->waiters[i], now_ns) && (first < 0 || tag_ns < lowest_ns)) {
            first = (int)i;
            lowest_ns = tag_ns;
        }
    }
    return first;
}

int mica_hold_leave(struct mica_token_region *token, struct mica_usage_region *usage, uint64_t record, uint64_t stays_ns, uint64_t now_ns)
{
    for (;;) {
        uint64_t seen = read_hold(token);
        uint64_t busy_ns = load(&token->busy_until_ns);
        if (owner_of(seen) != record + 1 || until_ns(seen, now_ns) <= now_ns || mica_inflight_sum(usage) != 0)
            return -1;
        if (change(token, seen, word_after(seen, now_ns + stays_ns, record))) {
            atomic_thread_fence(memory_order_seq_cst);
            (void)replace(&token->busy_until_ns, &busy_ns, now_ns); /* only what the slice itself still adds to is lost if it does not succeed */
            return first_waiter(token, now_ns);
        }
    }
}

bool mica_hold_comes_first(const struct mica_token_region *token, const struct mica_usage_region *usage, uint64_t now_ns)
{
    int first = first_waiter(token, now_ns);
    return first >= 0 && load(&usage->order_time_ns) < load(&token->waiters[first].order_tag_ns);
}

/* --- Coming back ---------------------------------------------------------------------------------------------------------- */

void mica_hold_return_note(struct mica_return *known, uint64_t gap_ns)
{
    if (gap_ns >= MICA_HOLD_RETURN_MAX_NS)
        return;
    bool first = known->usual_ns == 0;
    known->usual_ns = mica_return_after(known->usual_ns, gap_ns, MICA_HOLD_RETURN_MAX_NS);
    known->mean_ns = first ? gap_ns : known->mean_ns - known->mean_ns / MEAN_PARTS + gap_ns / MEAN_PARTS;
}

uint64_t mica_hold_return_ns(const struct mica_return *known)
{
    return known->mean_ns <= MICA_KEEP_MAX_NS ? known->usual_ns : 0;
}
