/* SPDX-License-Identifier: Apache-2.0
 *
 * A launch and the windows of a time-sliced device: whether it may go now, in its slice's own window or in another's, and what is learnt from when it ran.
 */
#ifndef MICA_SHIM_TURN_H
#define MICA_SHIM_TURN_H

#include "launch.h"

/* Where a launch that asks stands. All zero at first. */
struct mica_turn {
    bool owns;  /* it goes in its slice's own window */
    bool first; /* it is the first that asked there */
    struct mica_window window;
    uint64_t guard_ns;
};

/* Whether the work may go to the device at this time. 0: it may; else the nanoseconds after which to ask again. */
uint64_t mica_turn_wait(struct mica_turn *turn, struct mica_device *device, const struct mica_slice_limits *limits, struct mica_token_region *token,
                        const struct mica_work *work, uint64_t now_ns);
/* It goes: `work` is admitted. */
void mica_turn_taken(const struct mica_turn *turn, struct mica_device *device, const struct mica_slice_limits *limits, struct mica_work *work);
/* Whether the end of the admitted work is to be seen, for what it tells about the switch. */
static inline bool mica_turn_is_edge(const struct mica_work *work)
{
    return work->first || work->last;
}
/* The end of the work, which takes `cost_ns` by itself, was seen at `seen_ns`, as soon as it came: an end that nobody looked for in time says nothing. */
void mica_turn_seen(struct mica_device *device, const struct mica_work *work, uint64_t cost_ns, uint64_t seen_ns);

#endif
