/* SPDX-License-Identifier: Apache-2.0
 *
 * How a call that has to wait sleeps: never long, so that a new limit, share or control word takes effect within one nap.
 */
#ifndef MICA_SHIM_NAP_H
#define MICA_SHIM_NAP_H

#include <stdint.h>

#define MICA_NAP_MAX_NS 1000000ULL

/* Sleep for `wait_ns`, at most MICA_NAP_MAX_NS. A signal ends it early, which only means to look again sooner. */
void mica_nap(uint64_t wait_ns);

#endif
