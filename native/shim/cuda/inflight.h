/* SPDX-License-Identifier: Apache-2.0
 *
 * Launches in flight: submitted to the device and not ended there. In a slice that has a limit on them each is followed by an event of the driver's,
 * which tells when it has ended.
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
