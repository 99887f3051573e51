/* SPDX-License-Identifier: Apache-2.0
 *
 * What a graph costs: the sum of its kernels, until it has been measured as a whole.
 *
 * An executable graph is known by what its kernels are, not by its address: one that is instantiated again of the same kernels has the cost that was learnt.
 */
#ifndef MICA_SHIM_CUDA_GRAPH_H
#define MICA_SHIM_CUDA_GRAPH_H

#include "driver.h"

/* The name of the work that a launch of `exec` is. Lock-free. */
uint64_t graph_key(CUgraphExec exec);
void graph_forget(void);

#endif
