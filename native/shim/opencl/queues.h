/* SPDX-License-Identifier: Apache-2.0
 *
 * Queues are made with profiling, by which the layer times their work. To a program that did not ask for it, none of that shows.
 */
#ifndef MICA_SHIM_OPENCL_QUEUES_H
#define MICA_SHIM_OPENCL_QUEUES_H

#include "layer.h"

/* In a forked child. */
void queues_forget(void);

#endif
