/* SPDX-License-Identifier: Apache-2.0
 *
 * Attach: how this process joins its slice, once, and leaves it again.
 *
 * Invariant: the process holds a slot in every usage region of its slice exactly while the state is MICA_INSIDE.
 * A forked child is a process of its own: it starts again at MICA_UNDECIDED and takes slots of its own.
 */
#ifndef MICA_SHIM_ATTACH_H
#define MICA_SHIM_ATTACH_H

#include "slice.h"

enum mica_attach_state {
    MICA_UNDECIDED = 0, /* nothing has been asked of the shim yet */
    MICA_OUTSIDE = 1,   /* MICA_SLICE is not set, or something is at fault and the policy says so: everything passes through */
    MICA_INSIDE = 2,
    MICA_REFUSED = 3, /* said why on stderr; every enforced call fails */
    MICA_LEFT = 4     /* the process is exiting: gives nothing more, takes back everything */
};

extern _Atomic int mica_attach_state_word;

static inline int mica_attach_state(void)
{
    /* Acquire pairs with the release in attach.c: whoever reads INSIDE sees the opened slice. */
    return atomic_load_explicit(&mica_attach_state_word, memory_order_acquire);
}

/* Attach if that has not been decided yet. Returns the state, never MICA_UNDECIDED. `forget` is called in a forked child, to drop what
 * the shim above remembers of its parent. */
int mica_attach(void (*forget)(void));

/* The slice of this process; valid while the state is MICA_INSIDE or MICA_LEFT. */
struct mica_slice *mica_attached_slice(void);

/* What a hook is to do. */
enum door {
    DOOR_ENFORCE, /* inside a slice */
    DOOR_PASS,    /* not in a slice: hand the call on untouched */
    DOOR_CLOSED   /* nothing to hand on to, refused, or leaving */
};

/* The door of a process that has been asked to attach. */
static inline enum door mica_door(int state)
{
    return state == MICA_INSIDE ? DOOR_ENFORCE : state == MICA_OUTSIDE ? DOOR_PASS : DOOR_CLOSED;
}

extern _Atomic uint64_t mica_attach_epoch_word;

/* Counts attachments of this process image: caches that are keyed by it die with a fork. */
static inline uint64_t mica_attach_epoch(void)
{
    return atomic_load_explicit(&mica_attach_epoch_word, memory_order_relaxed);
}

#endif
