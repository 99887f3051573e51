/* SPDX-License-Identifier: Apache-2.0
 *
 * The live allocations of this process: handle -> what was charged for it.
 *
 * Lock-free. An entry is taken out by exactly one caller, so that a charge is given back exactly once however often and from however many
 * threads its handle is freed. Levels of a growing size are added while others read; none is moved or given back. 16 bytes
 * an entry, 4 KiB to begin with.
 */
#ifndef MICA_SHIM_LIVE_H
#define MICA_SHIM_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#define MICA_LIVE_BYTES_MAX ((1ULL << 48) - 1)

/* What was charged. `owner` says who it was charged to and what frees it besides its own free (see the shim above). */
struct mica_live_entry {
    uint64_t bytes; /* at most MICA_LIVE_BYTES_MAX */
    uint16_t owner;
};

/* Remember `handle` (2 or greater, not live now). False: no memory for the table, or bytes out of range. */
bool mica_live_insert(uint64_t handle, struct mica_live_entry entry);

/* Take `handle` out. True for exactly one caller per insertion. */
bool mica_live_remove(uint64_t handle, struct mica_live_entry *entry);

/* Take out every entry of `owner`, and hand each to `gone`. For an owner that is gone: entries inserted meanwhile may stay. */
void mica_live_sweep(uint16_t owner, void (*gone)(struct mica_live_entry entry));

/* Forget everything; for a forked child, which has one thread. */
void mica_live_forget(void);

/* Bytes mapped for the table. */
uint64_t mica_live_footprint(void);

#endif
