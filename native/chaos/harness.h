/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of this folder have in common: programs in the slice, and the driver's own count of the device, which no shim is in front of.
 */
#ifndef MICA_CHAOS_HARNESS_H
#define MICA_CHAOS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A program of the slice: `victim <role> <argument>`. */
pid_t chaos_start(const char *role, const char *argument);
void chaos_nap_us(uint64_t us);

/* The harness's own context, outside of any slice. */
bool chaos_driver_open(void);
uint64_t chaos_device_bytes(void); /* in use, by everybody */
bool chaos_device_take(uint64_t bytes, uint64_t *address);
void chaos_device_give(uint64_t address);

void chaos_check(bool holds, const char *what);
/* The closing line; the exit status. */
int chaos_end(void);

#endif
