/* SPDX-License-Identifier: Apache-2.0
 *
 * The fast path of a launch. A launch that was admitted takes a little more device time than it needs; the launches that follow it in the same thread and
 * context use that up without a clock, a shared write or a lock: some loads, a compare of the record's sequence, a subtraction.
 *
 * Invariant: credit is charged before it is used. It is void as soon as the slice's record moves, so that a new limit or control word holds for the next
 * launch.
 */
#ifndef MICA_SHIM_CREDIT_H
#define MICA_SHIM_CREDIT_H

#include "cost.h"
#include "slice.h"

#define MICA_CREDIT_RECENT 8 /* works whose cost a thread finds without a look into the table */

/* One thread's. The watcher reads `device` and the two counts. */
struct mica_credit {
    const void *place; /* where it may be used: a context; NULL: nowhere */
    _Atomic(struct mica_device *) device; /* written by its thread alone */
    uint64_t left_ns;
    const MICA_ATOMIC_U64 *sequence; /* of the slice's record ... */
    uint64_t seen;                   /* ... as it was when the credit was taken */
    struct {
        uint64_t key;
        struct mica_cost *cost;
    } recent[MICA_CREDIT_RECENT];
    _Atomic uint64_t launches; /* made on credit; written by its thread alone */
    _Atomic uint64_t counted;  /* of these, what the slice's counts have in them */
    _Atomic int taken;
};

extern _Thread_local struct mica_credit *mica_credit_own;

/* Use credit for one launch of the work `key` at `place`. False: ask. */
static inline bool mica_credit_use(const void *place, uint64_t key)
{
    struct mica_credit *credit = mica_credit_own;
    if (credit == NULL || credit->place != place || credit->recent[key % MICA_CREDIT_RECENT].key != key) {
        return false;
    }
    uint64_t cost_ns = atomic_load_explicit(&credit->recent[key % MICA_CREDIT_RECENT].cost->estimate_ns, memory_order_relaxed);
    /* Acquire pairs with the enforcer's release in mica_quota_write. */
    if (cost_ns == 0 || cost_ns > credit->left_ns || atomic_load_explicit(credit->sequence, memory_order_acquire) != credit->seen) {
        return false;
    }
    credit->left_ns -= cost_ns;
    uint64_t launches = atomic_load_explicit(&credit->launches, memory_order_relaxed);
    atomic_store_explicit(&credit->launches, launches + 1, memory_order_relaxed); /* one writer: no read-modify-write */
    return true;
}

/* Give this thread `credit_ns` more at `place`. What it had left elsewhere is taken from it: answers how much, and on which device it is to be taken off what
 * was charged. */
struct mica_unused {
    struct mica_device *device;
    uint64_t ns;
};
struct mica_unused mica_credit_renew(const void *place, struct mica_device *device, uint64_t credit_ns);
/* Let this thread find the work's cost. */
void mica_credit_learn(uint64_t key, struct mica_cost *cost);

/* Add `count` launches, and those made on this thread's credit so far, to the slice's counts. */
void mica_count_launches(struct mica_device *device, uint64_t count);
/* Add to them what other threads have made on credit; the watcher does, and the program's exit. A program that is killed may take with it the count, not the
 * charge, of what it launched on credit in its last second. Returns whether there was anything. */
bool mica_credit_count(void);

/* In a forked child, which has one thread. */
void mica_credit_forget(void);

#endif
