/* SPDX-License-Identifier: Apache-2.0
 *
 * Enforcement of a slice's compute limits on one device: who may submit work, and when. Work is whatever the device then does on its own for some time:
 * a kernel, or a graph of them. Once submitted it cannot be called back, so all that is enforced is enforced before.
 */
#ifndef MICA_SHIM_LAUNCH_H
#define MICA_SHIM_LAUNCH_H

#include "limits.h"

/* Work on its way to the device. */
struct mica_work {
    uint64_t cost_ns; /* the newest estimate */
    bool alone;       /* its cost is to be measured with nothing else on the device */
    bool strict;      /* the device would run it beside others' work, so that the slice must hold the device; counts in flight until mica_launch_over */
    bool prompt;      /* its program had nothing to do for a while; on a device that must be held */
    bool urgent;      /* communication: does not queue behind the process's other work */

    /* Answers. */
    uint64_t charged_ns; /* the cost, and the credit that was taken with it */
    uint64_t credit_ns;  /* what following launches may use up without asking */
    uint64_t now_ns;     /* CLOCK_MONOTONIC of the admission */
    uint64_t end_ns;     /* when, by estimate, the work ends */
    struct mica_token_region *token; /* on which it was admitted; NULL: by its rate alone */
    uint64_t record;     /* of the slice, there */
    uint64_t claim_ns;   /* to be released when its end is seen; 0: it is not alone */
    uint64_t turns;      /* of the device token, at the admission */
    enum mica_clean clean; /* NO also where nothing is on the device before it */
    uint64_t made_ns;    /* CLOCK_MONOTONIC when the driver had it; on a token only */
    uint64_t asked_ns;   /* CLOCK_MONOTONIC when it was first asked for */
    uint64_t opens_ns;   /* the own window in which it was admitted; both 0: none */
    uint64_t closes_ns;
    bool first;          /* of that window's work: when it began tells what the switch took */
    bool last;           /* nothing as long fits into that window after it: when it ends tells how late */
    bool limited;        /* launches in flight are limited, or at least counted */
    bool counted;        /* in the slot's in-flight count */
};

/* What work that has to wait does meanwhile. */
struct mica_wait {
    void (*poll)(void *context); /* called on every wake: settle what has ended, renew the work's estimate */
    void *context;
};

/* Wait until the slice may submit the work to the device, and charge it. */
enum mica_verdict mica_launch_admit(struct mica_device *device, struct mica_work *work, const struct mica_wait *wait);

/* The driver has the work. */
void mica_launch_made(struct mica_work *work);
/* The work is over and seen to be: it does not count in flight any more. Where it was the slice's last on a device that must be held, the slice lets go, for
 * `stays_ns` from now on. Waits for nothing. */
void mica_launch_over(struct mica_device *device, const struct mica_work *work, uint64_t stays_ns, uint64_t now_ns);
/* The same for `count` works of the slice of `record`, which holds the device by `token`. */
void mica_launch_left(struct mica_device *device, struct mica_token_region *token, uint64_t record, uint64_t count, uint64_t stays_ns, uint64_t now_ns);
/* The work did not come about: take back what was charged for it and for its credit. */
void mica_launch_cancel(struct mica_device *device, const struct mica_work *work);
/* After the fact: what was charged as `charged_ns` took `actual_ns`. `clock`: the token whose clock is to be told; NULL: none, or it knows. */
void mica_launch_correct(struct mica_device *device, uint64_t charged_ns, uint64_t actual_ns, struct mica_token_region *clock);
/* `count` launches that were counted as in flight have ended. */
void mica_launch_ended(struct mica_device *device, uint64_t count);

#endif
