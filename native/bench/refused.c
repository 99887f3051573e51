/* SPDX-License-Identifier: Apache-2.0
 *
 * Every other name of the driver's. They are there, as in any driver, so that whoever looks them up finds them at once; to call one is an
 * error. Weak: what driver.c defines is not replaced.
 */
#define NOT_SUPPORTED 801

#define REFUSE(name)                                                    \
    __attribute__((visibility("default"), weak)) int name(void);        \
    __attribute__((visibility("default"), weak)) int name(void)         \
    {                                                                   \
        return NOT_SUPPORTED;                                           \
    }

#define PASS(name) REFUSE(name)
#include "../shim/cuda/symbols.def"
#undef PASS

#include "../shim/cuda/hooks.h"
#define X(type, name, ...) REFUSE(name)
CUDA_HOOKS(X)
