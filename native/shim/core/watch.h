/* SPDX-License-Identifier: Apache-2.0
 *
 * The watcher: one thread of the process that looks after what nobody waits for: work that has ended, counts that are behind.
 *
 * It sleeps until something is due, and costs nothing while nothing is. Launches only ring it when it would wake too late.
 */
#ifndef MICA_SHIM_WATCH_H
#define MICA_SHIM_WATCH_H

#include <stdint.h>

#define MICA_WATCH_NEVER UINT64_MAX

/* What it does: called at `now_ns`, returns when to be called next. Set before the first ring. */
void mica_watch_with(uint64_t (*round)(uint64_t now_ns));
/* Have the watcher look at `due_ns` (CLOCK_MONOTONIC) at the latest. Starts it the first time. */
void mica_watch_by(uint64_t due_ns);
/* In a forked child: it has no watcher yet. */
void mica_watch_forget(void);

#endif
