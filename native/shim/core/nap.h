/* SPDX-License-Identifier: Apache-2.0
 *
 * How a call that has to wait sleeps: never long, so that a new limit, share or control word takes effect within one nap.
 */
#ifndef MICA_SHIM_NAP_H
#define MICA_SHIM_NAP_H

#include "../../region/region.h"

#define MICA_NAP_MAX_NS 1000000ULL
#define MICA_NAP_RUNG_MAX_NS 4000000ULL /* by a bell, which makes looking by oneself the exception */

/* Sleep for `wait_ns`, at most MICA_NAP_MAX_NS. A signal ends it early, which only means to look again sooner. */
void mica_nap(uint64_t wait_ns);

/* The same, until the bell is rung if that is sooner: it stood at `heard` before it was known that there is something to wait for. */
void mica_nap_by(MICA_ATOMIC_U64 *bell, uint64_t heard, uint64_t wait_ns);
/* Wake all that nap by the bell, in whatever process. Waits for nothing. */
void mica_nap_ring(MICA_ATOMIC_U64 *bell);

#endif
