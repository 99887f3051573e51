/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory: charged before the target is asked, on every device of the object's context, and given back when the object dies, which is not when it is released:
 * work that uses it and objects made from it keep it.
 */
#ifndef MICA_SHIM_OPENCL_MEMORY_H
#define MICA_SHIM_OPENCL_MEMORY_H

#include "layer.h"

/* In a forked child: the parent's objects are the parent's. */
void memory_forget(void);

#endif
