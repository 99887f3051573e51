/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kernel costs: device time per function and shape of its launch, learnt from measured launches.
 *
 * An elapsed time on a shared device is the work's own time plus whatever else ran in between. A measurement is trusted when nothing else can have run:
 * the launch had the device alone, or lay between launches of its own slice long after others' work. Trusted ones are averaged. One that lay between
 * launches of its own slice soon after others' work makes the estimate more exact where it is near it. Of the rest a lower one than was ever trusted is
 * believed at once, and a higher one says nothing.
 */
#ifndef MICA_SHIM_COST_H
#define MICA_SHIM_COST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a launch of unknown work is charged, until it has been measured; the difference is settled then. */
#define MICA_COST_UNKNOWN_NS 50000ULL

struct mica_cost {
    _Atomic uint64_t key;         /* 0: unused */
    _Atomic uint64_t estimate_ns; /* 0: not measured yet */
    _Atomic uint64_t lowest_ns;   /* of the trusted measurements */
    _Atomic uint64_t unsettled;   /* launches that were charged as unknown */
    _Atomic uint64_t charged_ns;  /* device time charged by the estimate since the last trusted measurement */
    _Atomic uint32_t trusted;     /* measurements */
    _Atomic uint32_t tries;       /* to measure alone, since the last trusted measurement */
    _Atomic uint32_t above;       /* measurements in a row that were far above the estimate */
};

/* How sure it is that a measured time is the work's own. */
enum mica_trust {
    MICA_TRUST_NONE, /* other work may well have run in between */
    MICA_TRUST_NEAR, /* it should not have: the time is believed where it is near the estimate */
    MICA_TRUST_FULL, /* nothing else can have run */
};

/* The difference that a measurement makes to what was charged before it. */
struct mica_settlement {
    uint64_t charged_ns;
    uint64_t actual_ns;
};

/* The name of a piece of work: what runs, and how large. Never 0. */
static inline uint64_t mica_cost_key(uint64_t function, uint64_t grid, uint64_t block)
{
    uint64_t key = (function ^ (grid * 0x9e3779b97f4a7c15ULL) ^ (block * 0xc2b2ae3d27d4eb4fULL)) * 0xbf58476d1ce4e5b9ULL;
    key ^= key >> 29;
    return key != 0 ? key : 1;
}

/* The entry of this work. Never NULL: a full table forgets its least lucky entry. */
struct mica_cost *mica_cost_find(uint64_t key);

/* What a launch is to be charged now. */
uint64_t mica_cost_estimate(const struct mica_cost *cost);
bool mica_cost_is_unknown(const struct mica_cost *cost);
/* Work that was never measured is made of parts that were: begin with their sum. */
void mica_cost_assume(struct mica_cost *cost, uint64_t estimate_ns);
/* Whether this launch is to be measured alone: the work is new, has long not been measured in peace, or seems to have become dearer. */
bool mica_cost_wants_alone(const struct mica_cost *cost);
void mica_cost_tries_alone(struct mica_cost *cost);

/* A launch was charged `charged_ns` for it. */
void mica_cost_charged(struct mica_cost *cost, uint64_t charged_ns);
/* It did not come about, and its charge was given back. */
void mica_cost_uncharged(struct mica_cost *cost);

/* A launch took `measured_ns`. What launches were charged while the work was unknown is to be corrected by the answer. `shared`: slices of this device run at
 * the same time, so that no measurement can be trusted and a higher one must count a little. */
struct mica_settlement mica_cost_measured(struct mica_cost *cost, uint64_t measured_ns, enum mica_trust trust, bool shared);

#endif
