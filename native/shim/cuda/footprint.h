/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory that nobody asked for by its size: what contexts, modules and their limits take. Only the driver knows, and only afterwards: it is measured
 * as what the vendor's library counts for this process before and after.
 *
 *     struct footprint footprint = footprint_begin(device, expected_bytes);
 *     if (footprint.result != CUDA_SUCCESS) return footprint.result;
 *     result = footprint_end(&footprint, below_cuModuleLoad(module, path));   // then footprint.bytes are charged; CUDA_ERROR_OUT_OF_MEMORY: undo it
 *
 * That is this process's own figure, so that neighbours who come and go at the same time do not disturb it. Where it cannot be had (no library, or one that
 * does not know this process by its pid), what was expected stays charged.
 */
#ifndef MICA_SHIM_CUDA_FOOTPRINT_H
#define MICA_SHIM_CUDA_FOOTPRINT_H

#include "context.h"

struct footprint {
    CUresult result;            /* not CUDA_SUCCESS: do not ask the driver, answer this */
    struct mica_device *device; /* NULL: not enforced */
    uint64_t bytes;             /* charged */
    bool is_measured;
    uint64_t counted_bytes; /* by the library, before */
    uint64_t charged_bytes; /* to this process, before, without `bytes` */
};

struct footprint footprint_begin(struct mica_device *device, uint64_t expected_bytes);
CUresult footprint_end(struct footprint *footprint, CUresult result);

/* A context is made on `device`: footprint_begin with what the first one of a process is known to take, or nothing for a later one. */
struct footprint footprint_context_begin(struct mica_device *device);
/* What the contexts of a device take stays charged until the last of them ends. */
void footprint_context_made(const struct footprint *footprint);
void footprint_context_ended(const struct mica_device *device);

/* In a forked child. */
void footprint_forget(void);

#endif
