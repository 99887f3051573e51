/* SPDX-License-Identifier: Apache-2.0
 *
 * Communication, which is not to wait behind computation: a kernel of a collective library, or a stream that the program gave a higher priority.
 */
#ifndef MICA_SHIM_CUDA_URGENT_H
#define MICA_SHIM_CUDA_URGENT_H

#include "driver.h"

bool urgent_is(CUfunction function, CUstream stream);
void urgent_forget(void);

#endif
