/* SPDX-License-Identifier: Apache-2.0 */
#include "inflight.h"

#include <string.h>

#define FLIGHTS_MAX 256 /* a process follows no more; a launch beyond them is taken for ended at once */

enum flight_state { FLIGHT_FREE = 0, FLIGHT_OPEN = 1, FLIGHT_FLYING = 2, FLIGHT_POLLED = 3 };

static struct flight {
    _Atomic int state; /* enum flight_state; whoever moves it to OPEN or POLLED owns the rest until it moves it on */
    struct context *context;
    CUevent event; /* of that context */
} flights[FLIGHTS_MAX];
static _Atomic int flying;

static bool move(struct flight *flight, int from, int to)
{
    /* Acquire and release: what the last owner wrote is seen by the next. */
    return atomic_compare_exchange_strong_explicit(&flight->state, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

/* An entry whose event is of this context, or one without an event yet, or one whose event is of another. */
static struct flight *take(struct context *context)
{
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
            struct flight *flight = &flights[i];
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
    return driver.cuEventCreate != NULL && driver.cuEventCreate(&flight->event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS;
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
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        poll_one(&flights[i], only);
    }
    return atomic_load_explicit(&flying, memory_order_relaxed) != 0;
}

void inflight_end(struct context *context)
{
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        struct flight *flight = &flights[i];
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
    memset((void *)flights, 0, sizeof flights);
    atomic_store_explicit(&flying, 0, memory_order_relaxed);
}
