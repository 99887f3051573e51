/* SPDX-License-Identifier: Apache-2.0
 *
 * Timing of sampled launches: about one per context and quantum, and every launch that has the device alone.
 *
 * An event is a mark in a stream; the driver tells how much time lay between the device's passing two of them. A launch is timed by one before and one
 * after it. Nothing here waits for the device: an end event is asked whether it has happened, by the watcher when it should have, and by launches that
 * wait anyway.
 */
#ifndef MICA_SHIM_CUDA_SAMPLE_H
#define MICA_SHIM_CUDA_SAMPLE_H

#include "context.h"

/* Make the context's timing events, so that no launch has to; the context is current. */
void sample_events_make(struct context *context);
/* The context is gone, and its events with it. */
void sample_events_forget(struct context *context);
/* Around a driver call that may end contexts: nobody asks for their events meanwhile. */
void sample_hold(void);
void sample_let_go(void);
/* In a forked child: it has no watcher, and none of the parent's launches. */
void sample_forget_all(void);

/* Begin to time the admitted work that follows in `stream`, if it is its turn. NULL: it is not. */
struct sample *sample_begin(struct context *context, struct mica_cost *cost, const struct mica_work *work, CUstream stream);
/* The launch is in the stream (or, `result` says, is not). */
void sample_end(struct sample *sample, struct context *context, const struct mica_work *work, CUstream stream, CUresult result);

/* Settle what has been measured by now. The context is current. */
void sample_poll(struct context *context, uint64_t now_ns);
/* The watcher's round over all contexts; returns when to look again. */
uint64_t sample_watch(uint64_t now_ns);

#endif
