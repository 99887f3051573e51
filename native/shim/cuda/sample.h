/* SPDX-License-Identifier: Apache-2.0
 *
 * Timing of sampled launches: about one per context and quantum, and the first of every kernel.
 *
 * Nothing here waits for the device: an end event is asked, at later launches, whether it has happened.
 */
#ifndef MICA_SHIM_CUDA_SAMPLE_H
#define MICA_SHIM_CUDA_SAMPLE_H

#include "context.h"

/* Make the context's timing events; the context is current. */
void sample_pool_open(struct context *context);
/* The context is gone, and its events with it. */
void sample_pool_forget(struct context *context);

/* Begin to time the launch that follows in `stream`, if it is its turn. NULL: it is not. */
struct sample *sample_begin(struct context *context, struct mica_cost *cost, CUstream stream, uint64_t now_ns);
/* The launch is in the stream (or, `result` says, is not). */
void sample_end(struct context *context, struct sample *sample, CUstream stream, CUresult result);

/* Settle what has been measured by now. The context is current. */
void sample_poll(struct context *context, uint64_t now_ns);

/* Has this process captured a stream into a graph? Then any launch may be into a capture, where it is recorded and not run. */
bool capture_is_used(void);
bool capture_is_active(CUstream stream);

#endif
