/* SPDX-License-Identifier: Apache-2.0 */
#include "inflight.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_FLIGHTS 256

enum flight_state { FLIGHT_FREE = 0, FLIGHT_OPEN = 1, FLIGHT_FLYING = 2, FLIGHT_POLLED = 3 };

/* One launch that is followed. */
struct flight {
    _Atomic int state; /* enum flight_state; whoever moves it to OPEN or POLLED owns the rest until it moves it on */
    struct context *context;
    CUevent event; /* of that context */
};

/* As many as were ever in flight at once. Blocks are added while others look, and never taken away. */
static struct block {
    struct flight flights[BLOCK_FLIGHTS];
    _Atomic(struct block *) next;
} blocks;
static _Atomic int flying;

/* Every flight, in `flight`. Acquire pairs with the release in add_block. */
#define FOR_EACH_FLIGHT(flight)                                                                                                   \
    for (struct block *block = &blocks; block != NULL; block = atomic_load_explicit(&block->next, memory_order_acquire))          \
        for (struct flight *flight = block->flights; flight < block->flights + BLOCK_FLIGHTS; flight++)

static bool move(struct flight *flight, int from, int to)
{
    /* Acquire and release: what the last owner wrote is seen by the next. */
    return atomic_compare_exchange_strong_explicit(&flight->state, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

/* A free one whose event is of this context, or one without an event yet, or one whose event is of another. NULL: none is free. */
static struct flight *take_free(const struct context *context)
{
    for (int pass = 0; pass < 2; pass++) {
        FOR_EACH_FLIGHT(flight)
        {
            if (atomic_load_explicit(&flight->state, memory_order_relaxed) != FLIGHT_FREE || !move(flight, FLIGHT_FREE, FLIGHT_OPEN)) {
                continue;
            }
            if (flight->context == context || flight->context == NULL || pass == 1) {
                return flight;
            }
            move(flight, FLIGHT_OPEN, FLIGHT_FREE);
        }
    }
    return NULL;
}

/* The one allocation behind a launch: only with a limit on launches in flight, and only when more are than ever before. */
static bool add_block(void)
{
    struct block *added = calloc(1, sizeof *added);
    if (added == NULL) {
        return false;
    }
    struct block *last = &blocks;
    struct block *next = NULL;
    while (!atomic_compare_exchange_strong_explicit(&last->next, &next, added, memory_order_release, memory_order_acquire)) {
        last = next;
        next = NULL;
    }
    return true;
}

static struct flight *take(const struct context *context)
{
    struct flight *flight = take_free(context);
    while (flight == NULL && add_block()) {
        flight = take_free(context);
    }
    return flight;
}

static bool prepare(struct flight *flight, struct context *context)
{
    if (flight->context == context && flight->event != NULL) {
        return true;
    }
    if (flight->event != NULL && driver.cuEventDestroy_v2 != NULL) {
        (void)driver.cuEventDestroy_v2(flight->event);
    }
    flight->event = NULL;
    flight->context = context;
    if (driver.cuEventCreate == NULL || !context_push(context)) { /* the stream's context, which need not be the current one */
        return false;
    }
    bool is_made = driver.cuEventCreate(&flight->event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS;
    context_pop();
    return is_made;
}

void inflight_follow(struct context *context, CUstream stream)
{
    struct flight *flight = take(context);
    if (flight != NULL && prepare(flight, context) && driver.cuEventRecord != NULL && driver.cuEventRecord(flight->event, stream) == CUDA_SUCCESS) {
        atomic_fetch_add_explicit(&flying, 1, memory_order_relaxed);
        move(flight, FLIGHT_OPEN, FLIGHT_FLYING);
        return;
    }
    if (flight != NULL) {
        move(flight, FLIGHT_OPEN, FLIGHT_FREE);
    }
    mica_launch_ended(context->device, 1);
}

static void poll_one(struct flight *flight, const struct context *only)
{
    if (atomic_load_explicit(&flight->state, memory_order_relaxed) != FLIGHT_FLYING || !move(flight, FLIGHT_FLYING, FLIGHT_POLLED)) {
        return;
    }
    if ((only != NULL && flight->context != only) || driver.cuEventQuery(flight->event) == CUDA_ERROR_NOT_READY) {
        move(flight, FLIGHT_POLLED, FLIGHT_FLYING);
        return;
    }
    mica_launch_ended(flight->context->device, 1);
    atomic_fetch_sub_explicit(&flying, 1, memory_order_relaxed);
    move(flight, FLIGHT_POLLED, FLIGHT_FREE);
}

bool inflight_poll(const struct context *only)
{
    if (atomic_load_explicit(&flying, memory_order_relaxed) == 0) {
        return false;
    }
    FOR_EACH_FLIGHT(flight)
    {
        poll_one(flight, only);
    }
    return atomic_load_explicit(&flying, memory_order_relaxed) != 0;
}

void inflight_end(struct context *context)
{
    FOR_EACH_FLIGHT(flight)
    {
        if (flight->context != context) {
            continue;
        }
        if (move(flight, FLIGHT_FLYING, FLIGHT_POLLED)) {
            mica_launch_ended(context->device, 1);
            atomic_fetch_sub_explicit(&flying, 1, memory_order_relaxed);
        }
        flight->event = NULL; /* the context's end has destroyed it */
        flight->context = NULL;
        move(flight, FLIGHT_POLLED, FLIGHT_FREE);
    }
}

void inflight_forget(void)
{
    FOR_EACH_FLIGHT(flight)
    {
        memset((void *)flight, 0, sizeof *flight);
    }
    atomic_store_explicit(&flying, 0, memory_order_relaxed);
}
