/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches of a slice whose launches in flight are limited: each is followed by an event, which tells when it has ended.
 */
#ifndef MICA_SHIM_CUDA_INFLIGHT_H
#define MICA_SHIM_CUDA_INFLIGHT_H

#include "context.h"

/* The launch, which was counted as in flight, is in the stream. */
void inflight_follow(struct context *context, CUstream stream);
/* Count out what has ended; false: nothing is being followed. The caller holds no event of these contexts (sample_hold), or the context is its own. */
bool inflight_poll(const struct context *only);
/* The context is gone, and all its launches with it. */
void inflight_end(struct context *context);
/* In a forked child: nothing of it is its own. */
void inflight_forget(void);

#endif
