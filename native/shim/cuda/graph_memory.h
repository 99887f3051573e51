/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that graphs allocate when they run. The driver takes it from the device at a graph's first launch, keeps it for the next, and lets go when it
 * is told to trim.
 *
 *     instantiated:   graph_memory_made(exec, graph)
 *     launched:       struct graph_memory memory = graph_memory_begin(exec, stream);
 *                     if (memory.result != CUDA_SUCCESS) return memory.result;
 *                     ... the driver's launch ...
 *                     graph_memory_end(&memory);
 *     destroyed:      graph_memory_gone(exec)
 *
 * A graph that allocates nothing costs its launch one load.
 */
#ifndef MICA_SHIM_CUDA_GRAPH_MEMORY_H
#define MICA_SHIM_CUDA_GRAPH_MEMORY_H

#include "context.h"

struct graph_memory {
    CUresult result;         /* not CUDA_SUCCESS: do not launch, answer this */
    struct context *context; /* NULL: nothing to settle */
    uint64_t bytes;          /* charged for this launch until it is settled */
};

/* `exec` was made of `graph`, or updated to it: note what its nodes allocate, those of graphs within it too. */
void graph_memory_made(CUgraphExec exec, CUgraph graph);
void graph_memory_gone(CUgraphExec exec);

/* The first launch, and the first after a trim, reserves what the nodes allocate; the driver may make do with less. */
struct graph_memory graph_memory_begin(CUgraphExec exec, CUstream stream);
/* The driver has answered: the charge is what it has reserved for graphs. */
void graph_memory_end(const struct graph_memory *memory);

/* The driver may have let go of some. */
void graph_memory_settle(void);

/* In a forked child. */
void graph_memory_forget(void);

#endif
