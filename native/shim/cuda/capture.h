/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream capture: launches into a capturing stream are recorded, not run. They cost nothing, and nothing may wait or touch events there.
 */
#ifndef MICA_SHIM_CUDA_CAPTURE_H
#define MICA_SHIM_CUDA_CAPTURE_H

#include "driver.h"

/* Captures that were begun and not ended. One whose stream is destroyed under it is never ended: then launches go on being asked one by one. */
extern _Atomic int capture_count;

/* Is any stream of this process capturing? Then any launch may be into a capture. */
static inline bool capture_is_used(void)
{
    return atomic_load_explicit(&capture_count, memory_order_relaxed) != 0;
}

/* Is `stream`? The legacy stream cannot be asked while another captures: then true, and nothing is to be touched. */
bool capture_is_active(CUstream stream);

/* While a stream captures, the driver forbids asking for events unless this thread says that it knows what it does. */
int capture_relax(void);
void capture_restore(int mode);

void capture_forget(void);

#endif
