/* SPDX-License-Identifier: Apache-2.0
 *
 * What a kernel costs: device time per (function, grid volume), learnt from sampled launches.
 *
 * An elapsed time on a shared device is the work's own time plus whatever else ran in between. The work's own cost is therefore a low
 * quantile of what was measured: the minimum, let rise slowly so that a kernel that has become longer is noticed.
 */
#ifndef MICA_SHIM_COST_H
#define MICA_SHIM_COST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a launch of unknown work is charged, until it has been measured; the difference is settled then. */
#define MICA_COST_UNKNOWN_NS 50000ULL

/* While a kernel is new its first launches are all measured: the first of them may have waited for a neighbour. */
#define MICA_COST_LEARNING 8

struct mica_cost {
    _Atomic uint64_t key;         /* 0: unused */
    _Atomic uint64_t estimate_ns; /* 0: not measured yet */
    _Atomic uint64_t unsettled;   /* launches whose charge, as it stands, is the estimate, and moves with it */
    _Atomic uint32_t begun;       /* measurements, while the kernel is new */
    _Atomic uint32_t done;
};

/* The difference that a measurement makes to what was charged before it. */
struct mica_settlement {
    uint64_t charged_ns;
    uint64_t actual_ns;
};

/* The entry of this function at this grid volume. Never NULL: a full table forgets its least lucky entry. */
struct mica_cost *mica_cost_find(uint64_t function, uint64_t volume);

/* What a launch is to be charged now. */
uint64_t mica_cost_estimate(const struct mica_cost *cost);
/* A launch was charged the estimate. */
void mica_cost_charged(struct mica_cost *cost);
/* It did not come about, and its charge was given back. */
void mica_cost_uncharged(struct mica_cost *cost);

/* True while the kernel is new: this launch is one to measure. */
bool mica_cost_claim(struct mica_cost *cost);
/* The claimed measurement did not come about. */
void mica_cost_unclaim(struct mica_cost *cost);

/* A launch took `measured_ns`. What the launches before it were charged is to be corrected by the answer. */
struct mica_settlement mica_cost_measured(struct mica_cost *cost, uint64_t measured_ns);

#endif
