/* SPDX-License-Identifier: Apache-2.0
 *
 * Communication, which is not to wait behind computation: a kernel of a collective library (one that moves data between the devices of many processes,
 * all of which wait for the slowest), or a stream that the program gave a higher priority.
 */
#ifndef MICA_SHIM_CUDA_URGENT_H
#define MICA_SHIM_CUDA_URGENT_H

#include "driver.h"

bool urgent_is(CUfunction function, CUstream stream);
void urgent_forget(void);

#endif
