/* SPDX-License-Identifier: Apache-2.0
 *
 * Contexts: a context is one process's work on one device. A call works in the context of its stream, or else in the one that is current
 * in its thread, so that is how the shim finds out which device, and which regions, the call is about.
 *
 * Invariant: a context keeps its index from when it was first seen until it is destroyed.
 */
#ifndef MICA_SHIM_CUDA_CONTEXT_H
#define MICA_SHIM_CUDA_CONTEXT_H

#include "driver.h"

#define CONTEXTS_MAX 64
#define SAMPLES_MAX 8

struct mica_cost;

enum sample_state {
    SAMPLE_NONE = 0,    /* its events could not be made */
    SAMPLE_FREE = 1,
    SAMPLE_OPEN = 2,    /* a launch is being submitted between its events */
    SAMPLE_PENDING = 3, /* both are in the stream; the end has not been seen */
    SAMPLE_POLLED = 4   /* somebody is asking the driver for the end */
};

/* One launch being timed: an event of the driver's before it in its stream, one after it. */
struct sample {
    _Atomic int state; /* enum sample_state; whoever moves it to OPEN or POLLED owns the rest until it moves it on */
    CUevent start;
    CUevent end;
    struct mica_cost *cost;
    struct mica_work work;
    uint64_t due_ns;     /* when to ask for its end next */
    uint64_t started_ns; /* CLOCK_MONOTONIC of the start event; 0: it is not needed */
    uint64_t shifted_ns; /* how much the device's clock was put on because it was late */
    bool in_order;       /* only work of the same stream lies before it */
};

struct context {
    _Atomic(CUcontext) handle;  /* NULL: unused */
    struct mica_device *device; /* NULL: a device that is not the slice's */
    CUdevice ordinal;
    unsigned index; /* among the process's contexts */
    _Atomic int pending;             /* samples that wait for their end event */
    _Atomic uint64_t next_sample_ns; /* CLOCK_MONOTONIC */
    _Atomic uint64_t next_poll_ns;
    _Atomic(CUstream) last_stream;         /* of the newest launch that asked ... */
    _Atomic(const void *) last_thread;     /* ... and who made it */
    struct sample samples[SAMPLES_MAX];
    _Atomic uint64_t lacking_bytes;   /* what the device has less than the slice may take, */
    _Atomic uint64_t lacking_read_ns; /* as of then; 0: not read yet */
    _Atomic uint64_t extra_bytes;     /* charged for its limits, until it ends */
};

/* The context that is current in this thread, or NULL: none is, and the driver will say so. */
struct context *context_current(void);

/* The context in which what is submitted to a stream is done: the stream's own, for a default stream the current one. */
struct context *context_of_stream(CUstream stream);

/* Make a context current, for a call of the driver's that works in the current one; and the one before it again. */
bool context_push(const struct context *context);
void context_pop(void);

/* The context of that index, below CONTEXTS_MAX; its handle may be NULL. */
struct context *context_at(unsigned index);

/* What a charge in the live table belongs to: which memory it is of, and what frees it besides its own free. A context frees what was made in
 * it when it ends; memory of a device or a pool outlives contexts. */
enum owner_class { OWNER_CONTEXT = 0, OWNER_CONTEXT_PINNED = 1, OWNER_DEVICE = 2, OWNER_DEVICE_PINNED = 3, OWNER_POOL = 4 };
#define OWNER_INDEX_BITS 12

static inline enum owner_class owner_class(uint16_t owner)
{
    return (enum owner_class)(owner >> OWNER_INDEX_BITS);
}

static inline unsigned owner_index(uint16_t owner)
{
    return owner & ((1U << OWNER_INDEX_BITS) - 1);
}

static inline uint16_t owner_make(enum owner_class class, unsigned index)
{
    return (uint16_t)((unsigned)class << OWNER_INDEX_BITS | index);
}

static inline uint16_t context_owner(const struct context *context, enum mica_memory_kind kind)
{
    return owner_make(kind == MICA_MEMORY_PINNED ? OWNER_CONTEXT_PINNED : OWNER_CONTEXT, context->index);
}

static inline enum mica_memory_kind owner_kind(uint16_t owner)
{
    enum owner_class class = owner_class(owner);
    return class == OWNER_CONTEXT_PINNED || class == OWNER_DEVICE_PINNED ? MICA_MEMORY_PINNED : MICA_MEMORY_VRAM;
}

uint16_t device_owner(const struct mica_device *device, enum mica_memory_kind kind);
/* Of all classes but OWNER_POOL. */
struct mica_device *owner_device(uint16_t owner);

/* Until it ends, the context holds this much more device memory, which is charged already. */
void context_charge_more(struct context *context, uint64_t bytes);

/* The slice's device behind a device ordinal, or NULL when the slice does not have it. */
struct mica_device *ordinal_device(CUdevice ordinal);

/* In a forked child: none of the parent's contexts exist. */
void context_forget_all(void);

#endif
