/* SPDX-License-Identifier: Apache-2.0
 *
 * What this process weighs among the processes of its slice, and how soon its work should be done: of two that both have work, one of twice the weight gets
 * twice as much of the slice's time, and one with a deadline goes first.
 */
#ifndef MICA_SHIM_WEIGHT_H
#define MICA_SHIM_WEIGHT_H

#include "slice.h"

/* Write what this process weighs within its slice into its slot: MICA_WEIGHT of the environment, 1 to 10000, else MICA_WEIGHT_DEFAULT; and note within how long
 * its launches should be done: MICA_DEADLINE_MS, 1 to 60000, else never. A text that is no such number is said once on stderr. */
void mica_weigh(struct mica_device *device);

#endif
