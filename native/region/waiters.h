/* SPDX-License-Identifier: Apache-2.0
 *
 * Who waits for the device, and in which order. Whoever is gone or stopped is believed for MICA_WAITER_STALE_NS and then holds nobody up.
 */
#ifndef MICA_REGION_WAITERS_H
#define MICA_REGION_WAITERS_H

#include "words.h"

/* Heard of lately. A time that lies ahead of the clock by more than two readers of it are apart is damaged, and would be believed until it has come. */
static inline bool is_recent(uint64_t seen_ns, uint64_t now_ns)
{
    return seen_ns != 0 && difference(now_ns, seen_ns) <= MICA_WAITER_STALE_NS && difference(seen_ns, now_ns) <= MICA_WAITER_STALE_NS;
}

static inline bool waits(const struct mica_token_waiter *waiter, uint64_t now_ns)
{
    return is_recent(load(&waiter->seen_ns), now_ns);
}

static inline uint64_t waiters_high(const struct mica_token_region *token)
{
    uint64_t high = load(&token->waiters_high);
    return high < MICA_SLICES_MAX ? high : MICA_SLICES_MAX;
}

#define GRACE_MAX_NS 5000000ULL

struct others {
    unsigned waiting;
    unsigned lower;  /* of these, with a lower tag than the asker */
    unsigned prompt; /* of these again, such as nobody's turn holds up */
};

static inline struct others others_of(const struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns)
{
    struct others others = {0, 0, 0};
    uint64_t high = waiters_high(token);
    for (uint64_t i = 0; i < high; i++) {
        const struct mica_token_waiter *waiter = &token->waiters[i];
        if (i == ask->record || !waits(waiter, now_ns))
            continue;
        uint64_t tag_ns = load(&waiter->order_tag_ns);
        bool lower = tag_ns < ask->tag_ns || (tag_ns == ask->tag_ns && i < ask->record);
        others.waiting++;
        others.lower += lower;
        others.prompt += lower && load(&waiter->prompt) != 0;
    }
    return others;
}

/* How long the device waits for a slice that comes first in the order, before the asker takes its place: a long kernel waits longer than a short one, because
 * it also stays longer. */
static inline uint64_t grace_of(const struct mica_token_ask *ask)
{
    return ask->cost_ns < MICA_TOKEN_GRACE_NS ? MICA_TOKEN_GRACE_NS : ask->cost_ns < GRACE_MAX_NS ? ask->cost_ns : GRACE_MAX_NS;
}

static inline void wait_among(struct mica_token_region *token, const struct mica_token_ask *ask, uint64_t now_ns)
{
    struct mica_token_waiter *waiter = &token->waiters[ask->record];
    raise_to(&token->waiters_high, ask->record + 1);
    store(&waiter->order_tag_ns, ask->tag_ns);
    store(&waiter->seen_ns, now_ns);
}

/* Work on the clock, as far as a clock can be believed. */
static inline uint64_t backlog_at(uint64_t busy_ns, uint64_t now_ns)
{
    uint64_t backlog_ns = difference(busy_ns, now_ns);
    return backlog_ns <= MICA_TOKEN_BACKLOG_MAX_NS ? backlog_ns : 0;
}

#endif
