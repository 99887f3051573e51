/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that would run several slices' work at once: what this process has there, for how long it holds on to the device, and how soon it usually comes back.
 *
 * Invariant: what counts as in flight is running or is about to. Work that has long not ended though nothing else is before it waits for the program; it is not counted
 * any more, so that the last of the others lets go of the device.
 */
#ifndef MICA_SHIM_OPENCL_HELD_H
#define MICA_SHIM_OPENCL_HELD_H

#include "../core/launch.h"

/* The program asks for work. Says in `work` whether it is prompt. */
void held_ask(const struct mica_device *device, struct mica_work *work, uint64_t now_ns);
/* The work was admitted; `is_unknown`: nobody knows how long it takes. Returns in which of its ages the process's count has it. */
uint32_t held_begin(const struct mica_device *device, const struct mica_work *work, bool is_unknown);
/* The work is over, or did not come about, `measured_ns` after it began (0: not known). Waits for nothing. */
void held_end(struct mica_device *device, const struct mica_work *work, uint32_t age, uint64_t measured_ns, uint64_t now_ns);
/* Hold on to the devices on which work runs, and stop counting what does not. Returns when to be called next. */
uint64_t held_round(uint64_t now_ns);
/* In a forked child. */
void held_forget(void);

#endif
